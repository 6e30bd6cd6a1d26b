/** Pages that are hidden, taken out of the history, or offline; and what an abort leaves. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { LOSSES, problem } from './api.js';
import { CART, fakePage, reading, stage, steps, until } from './tools.js';

const limit = { timeout: 15_000 };

test(
  'a hidden page has no connection, and is right within a second of being shown, without a second POST',
  limit,
  async (t) => {
    const { api, open } = await stage(t);
    const page = fakePage(t);
    api.setStock('chair-123', { available: 10 });
    const shop = open();
    const watch = reading(shop.live({ skus: ['chair-123'] }));
    const purchase = reading(shop.buy(CART));
    await until(() => [...api.streams].some((it) => it.orders.length) && watch.states.length);
    page.hide();
    await until(() => !api.open.size);
    const asked = api.requests.length;
    api.change(undefined, { status: 'reserved' });
    api.change(undefined, { status: 'confirmed' });
    api.setStock('chair-123', { available: 1 });
    // The turn of the event loop in which a page that does not sleep would ask.
    await sleep(100);
    assert.equal(api.requests.length, asked);
    assert.ok(!purchase.statuses().includes('confirmed'));
    const began = performance.now();
    page.show();
    await purchase.end;
    await until(() => watch.states.at(-1).stock.available === 1);
    assert.ok(performance.now() - began < 1000);
    assert.equal(api.count('POST'), 1);
    page.hide();
  },
);

test('a purchase that is not sent yet goes on in a hidden page', limit, async (t) => {
  const { api, open } = await stage(t);
  const page = fakePage(t);
  page.hide();
  api.settlesAs = 'confirmed';
  api.scripts.POST.push(LOSSES['after the request was taken'], () =>
    problem(503, 'overloaded', { 'retry-after': '1' }),
  );
  const purchase = reading(open().buy(CART));
  await until(() => purchase.statuses().includes('queued'));
  assert.equal(api.orders.size, 1);
  page.show();
  await purchase.end;
});

test('a page that comes back, or is online again, does not sit out its back-off', limit, async (t) => {
  const { api, open } = await stage(t);
  const page = fakePage(t);
  t.mock.method(Math, 'random', () => 0.99);
  api.habits.POST = LOSSES['before the request is taken'];
  const purchase = reading(open().buy(CART));
  for (const [failures, wake] of [
    [3, () => page.window.dispatchEvent(new Event('online'))],
    [4, () => page.window.dispatchEvent(new Event('pageshow'))],
    [5, page.show],
  ]) {
    await until(() => purchase.states.filter((it) => it.problem).length >= failures);
    const began = performance.now();
    const asked = api.count('POST');
    if (failures === 5) api.habits = {};
    wake();
    await until(() => api.count('POST') > asked);
    assert.ok(performance.now() - began < 500);
  }
  await until(() => purchase.statuses().includes('queued'));
  api.change(undefined, { status: 'confirmed' });
  await purchase.end;
});

test('Retry-After counts for a page that comes back, too, but not the time that it slept', limit, async (t) => {
  const { api, open } = await stage(t);
  const page = fakePage(t);
  api.settlesAs = 'confirmed';
  api.scripts.POST.push(
    () => problem(503, 'overloaded', { 'retry-after': '1' }),
    () => problem(503, 'paused', { 'retry-after': '3600' }),
  );
  const purchase = reading(open().buy(CART));
  await until(() => purchase.states.some((it) => it.problem));
  page.hide();
  page.show();
  await until(() => api.count('POST') === 2);
  assert.ok(api.requests[1].at - api.requests[0].at >= 999);
  await until(() => purchase.states.at(-1).problem?.code === 'paused');
  // The machine slept for an hour: the calendar says so, and no timer does.
  const now = Date.now;
  t.mock.method(Date, 'now', () => now() + 3_600_000);
  page.hide();
  page.show();
  await purchase.end;
});

test('a Retry-After beyond what a timer can hold is not taken for none', limit, async (t) => {
  const { api, open } = await stage(t);
  api.habits.POST = () => problem(503, 'paused', { 'retry-after': '99999999999' });
  const abort = new AbortController();
  const purchase = reading(open().buy(CART, { signal: abort.signal }));
  await until(() => purchase.states.some((it) => it.problem));
  await sleep(50);
  assert.equal(api.count('POST'), 1);
  abort.abort();
  await purchase.end;
});

/** Where a purchase or a watch may stand when it is aborted. */
const MOMENTS = {
  'before it begins': { when: () => true },
  'while the token is fetched': { token: () => new Promise(() => {}), when: ({ states }) => states.length },
  'while the request is under way': { POST: () => {}, when: ({ api }) => api.count('POST') },
  'in the middle of an answer': {
    POST: (_request, response) => void response.writeHead(202, { 'content-type': 'application/json' }).write('{"order'),
    when: ({ api }) => api.count('POST'),
  },
  'while it waits for Retry-After': {
    POST: () => problem(429, 'rate_limited', { 'retry-after': '60' }),
    when: ({ states }) => states.some((it) => it.problem),
  },
  'while it backs off': {
    POST: LOSSES['before the request is taken'],
    when: ({ states }) => states.some((it) => it.problem),
  },
  'while the stream is opened': { live: () => {}, when: ({ api }) => api.count('live') },
  'while the stream is open': { when: ({ api }) => api.streams.size },
  'during a long poll': { live: () => problem(404, 'not_found'), when: ({ api }) => api.waiting.size },
  'while its page is hidden': { hide: true, when: ({ states }) => states.some((it) => it.status === 'queued') },
};

const timers = () => process.getActiveResourcesInfo().filter((it) => it === 'Timeout').length;

for (const [moment, { when, token, hide, ...habits }] of Object.entries(MOMENTS)) {
  test(`an abort ${moment} ends everything at once, and is no error`, limit, async (t) => {
    const { api, open } = await stage(t, { token });
    const page = fakePage(t);
    if (hide) page.hide();
    api.habits = habits;
    const before = timers();
    const abort = new AbortController();
    if (moment === 'before it begins') abort.abort();
    const listeners = countListeners(t, abort.signal);
    const { states, end } = reading(open().buy(CART, { signal: abort.signal }));
    await until(() => when({ api, states }));
    const began = performance.now();
    abort.abort();
    await end;
    assert.ok(performance.now() - began < 200);
    await until(() => !api.open.size);
    assert.equal(listeners(), 0, 'listeners');
    await until(() => timers() <= before);
  });
}

test('leaving the loop ends everything, too', limit, async (t) => {
  const { api, open } = await stage(t);
  fakePage(t);
  const listeners = countListeners(t);
  const before = timers();
  for await (const state of open().buy(CART)) if (state.status === 'queued') break;
  for await (const state of open().buy({ items: [] })) if (state.status === 'queued' && api.streams.size) break;
  await until(() => !api.open.size);
  assert.equal(listeners(), 0);
  await until(() => timers() <= before);
});

test('a purchase that is over leaves nothing either', limit, async (t) => {
  const { api, open } = await stage(t);
  fakePage(t);
  api.settlesAs = 'confirmed';
  const listeners = countListeners(t);
  const before = timers();
  const shop = open();
  await reading(shop.buy(CART)).end;
  await shop.order('order-1');
  assert.equal(listeners(), 0);
  assert.ok(timers() <= before, 'timers');
  assert.equal(api.open.size, 0);
});

test('what was answered leaves no timer while a purchase goes on', limit, async (t) => {
  const { api, open } = await stage(t);
  t.mock.method(Math, 'random', () => 0);
  const before = timers();
  for (let i = 0; i < 5; i++) api.scripts.POST.push(() => problem(503, 'unavailable'));
  const purchase = reading(open().buy(CART));
  await until(() => purchase.statuses().includes('queued') && api.streams.size);
  assert.ok(timers() <= before + 1, `${timers()} timers, and ${before} before`);
  api.change(undefined, { status: 'confirmed' });
  await purchase.end;
});

test('a hidden page does not look a stored order up', limit, async (t) => {
  const { api, open } = await stage(t);
  const page = fakePage(t);
  const first = open().buy(CART);
  while ((await first.next()).value.status !== 'queued');
  await first.return();
  page.hide();
  const asked = api.requests.length;
  const purchase = reading(open().resume());
  await until(() => purchase.states.length);
  await sleep(300);
  assert.equal(api.requests.length, asked);
  page.show();
  await until(() => api.streams.size);
  api.change(undefined, { status: 'confirmed' });
  assert.equal((await purchase.end).at(-1).status, 'confirmed');
});

test('Retry-After of the stream holds, however often the page is hidden', limit, async (t) => {
  const { api, open } = await stage(t);
  const page = fakePage(t);
  api.habits.live = () => problem(503, 'overloaded', { 'retry-after': '600' });
  const purchase = reading(open().buy(CART));
  await until(() => purchase.statuses().includes('queued') && api.count('GET'));
  for (let i = 0; i < 5; i++) {
    page.hide();
    await sleep(20);
    const asked = api.count('GET');
    page.show();
    await until(() => api.count('GET') > asked);
  }
  assert.equal(api.count('live'), 1);
  api.change(undefined, { status: 'confirmed' });
  await purchase.end;
});

test('an abort of one watcher leaves the others alone', limit, async (t) => {
  const { api, open } = await stage(t);
  const shop = open();
  api.setStock('chair-123', { available: 3 });
  const abort = new AbortController();
  const watch = reading(shop.live({ skus: ['chair-123'] }, { signal: abort.signal }));
  const purchase = reading(shop.buy(CART));
  await until(() => purchase.statuses().includes('queued') && watch.states.length);
  abort.abort();
  await watch.end;
  await until(() => [...api.streams].some((it) => it.orders.length));
  api.change(undefined, { status: 'confirmed' });
  assert.deepEqual(steps(await purchase.end), ['sending', 'queued', 'confirmed']);
});

/** Counts the listeners that are left on the page and on a signal of the caller. */
function countListeners(t, signal) {
  const live = new Map();
  const { addEventListener: add, removeEventListener: remove } = EventTarget.prototype;
  const of = (target, type) => {
    if (!live.has(target)) live.set(target, new Map());
    const types = live.get(target);
    if (!types.has(type)) types.set(type, new Set());
    return types.get(type);
  };
  const isOurs = (target) => [globalThis.document, globalThis.window, signal].includes(target);
  t.mock.method(EventTarget.prototype, 'addEventListener', function (type, listener, options) {
    if (isOurs(this)) of(this, type).add(listener);
    return add.call(this, type, listener, options);
  });
  t.mock.method(EventTarget.prototype, 'removeEventListener', function (type, listener, options) {
    if (isOurs(this)) of(this, type).delete(listener);
    return remove.call(this, type, listener, options);
  });
  return () => [...live.values()].flatMap((types) => [...types.values()]).reduce((sum, set) => sum + set.size, 0);
}
