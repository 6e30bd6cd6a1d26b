/** What several claims need. */
import { setTimeout as sleep } from 'node:timers/promises';
import { startApi } from './api.js';
import { hotrow } from '../hotrow.js';

export const CART = { customer_id: 'c-42', items: [{ sku: 'chair-123', quantity: 1 }] };

/** What a browser keeps through reloads. */
export class MemoryStorage {
  texts = new Map();
  getItem = (name) => this.texts.get(name) ?? null;
  setItem = (name, text) => void this.texts.set(name, text);
  removeItem = (name) => void this.texts.delete(name);
  get text() {
    return [...this.texts.values()].join();
  }
}

/** Waits for a condition; the claim's own time limit ends it. */
export async function until(condition) {
  for (;;) {
    const value = await condition();
    if (value) return value;
    await sleep(2);
  }
}

/** An API that is closed with the test, and a shop that is opened anew for each page. */
export async function stage(t, options = {}) {
  const api = await startApi();
  t.after(() => api.close());
  const storage = new MemoryStorage();
  const open = (more = {}) => hotrow({ url: api.url, storage, ...options, ...more });
  return { api, storage, open };
}

/** Reads a purchase in the background: its states so far, and its end. */
export function reading(iteration) {
  const states = [];
  const end = (async () => {
    for await (const state of iteration) states.push(state);
    return states;
  })();
  end.catch(() => {});
  return { states, end, statuses: () => states.map((it) => it.status) };
}

/** What was heard of one kind of thing. */
export const heard = (watch, kind) => watch.states.map((it) => it[kind]).filter(Boolean);

/** Watches in the background until the test is over. */
export function watching(t, shop, things) {
  const abort = new AbortController();
  t.after(() => abort.abort());
  return { abort, ...reading(shop.live(things, { signal: abort.signal })) };
}

/** Each status once, in the order in which they came. */
export const steps = (states) => states.map((it) => it.status).filter((it, i, all) => it !== all[i - 1]);

/** A page that can be hidden. */
export function fakePage(t) {
  const document = new EventTarget();
  document.visibilityState = 'visible';
  globalThis.document = document;
  globalThis.window = new EventTarget();
  t.after(() => {
    delete globalThis.document;
    delete globalThis.window;
  });
  const turn = (visibility) => {
    document.visibilityState = visibility;
    document.dispatchEvent(new Event('visibilitychange'));
  };
  return { hide: () => turn('hidden'), show: () => turn('visible'), window: globalThis.window };
}
