/** A page that is loaded again in the middle of a purchase: another client over the same storage. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { LOSSES, problem } from './api.js';
import { CART, reading, stage, steps, until } from './tools.js';

const limit = { timeout: 15_000 };
const HOUR = 3_600_000;

/** The page is gone: nothing of it goes on. */
async function unload(page) {
  page.abort.abort();
  await page.end;
}

const load = (iterate) => {
  const abort = new AbortController();
  return { abort, ...reading(iterate({ signal: abort.signal })) };
};

const keysOf = (api) => new Set(api.requests.filter((it) => it.route === 'POST').map((it) => it.key));

/** How far the purchase is when the page is loaded again. */
const MOMENTS = {
  'before the request is sent': { when: ({ page }) => page.states.length },
  'while the request is under way': { script: () => {}, when: ({ api }) => api.count('POST') },
  'after the request was taken and its answer lost': {
    script: LOSSES['after the request was taken'],
    when: ({ page }) => page.states.some((it) => it.problem),
  },
  'while it waits for Retry-After': {
    script: () => problem(503, 'overloaded', { 'retry-after': '1' }),
    when: ({ page }) => page.states.some((it) => it.problem),
  },
  'while it is queued': { when: ({ page }) => page.statuses().includes('queued') },
  'while it is reserved': {
    reserve: true,
    when: ({ page, api }) => {
      if (api.streams.size && !api.orders.get('order-1').revision) api.change(undefined, { status: 'reserved' });
      return page.statuses().includes('reserved');
    },
  },
};

for (const again of ['buy', 'resume']) {
  for (const [moment, { script, when }] of Object.entries(MOMENTS)) {
    test(`a reload ${moment}, and then ${again}, is one order`, limit, async (t) => {
      const { api, open, storage } = await stage(t);
      if (script) api.scripts.POST.push(script);
      const page = load((options) => open().buy(CART, options));
      await until(() => when({ api, page }));
      await unload(page);
      const sent = api.requests.length;
      // Ten reloads, three of them at once, each of which gets as far as it can in a moment.
      for (let i = 0; i < 3; i++) {
        const pages = [1, 2, 3].map(() => load((options) => open().resume(null, options)));
        await until(() => pages.every((it) => it.states.length));
        await sleep(20);
        for (const it of pages) await unload(it);
      }
      const last = load((options) => (again === 'buy' ? open().buy(CART, options) : open().resume(null, options)));
      await until(() => api.streams.size);
      api.change(undefined, { status: 'confirmed' });
      assert.equal((await last.end).at(-1).status, 'confirmed');
      assert.equal(api.orders.size, 1);
      assert.equal(keysOf(api).size, 1);
      assert.equal(storage.text, '');
      if (moment !== 'while it waits for Retry-After') return;
      assert.ok(api.requests[sent].at - api.requests[sent - 1].at >= 999, 'nor is Retry-After forgotten');
    });
  }
}

test('two tabs that buy the same cart at the same moment have one order', limit, async (t) => {
  const { api, open } = await stage(t);
  api.settlesAs = 'confirmed';
  const tabs = [open(), open(), open()].map((shop) => reading(shop.buy(CART)));
  for (const { end } of tabs) assert.equal((await end).at(-1).status, 'confirmed');
  assert.equal(keysOf(api).size, 1);
  assert.equal(api.orders.size, 1);
});

const overloaded = () => problem(503, 'overloaded', { 'retry-after': '1' });

test('what one tab gives up, another one does not send', limit, async (t) => {
  const { api, open } = await stage(t);
  api.settlesAs = 'confirmed';
  api.scripts.POST.push(overloaded);
  const other = reading(open().buy(CART));
  await until(() => other.states.at(-1)?.problem);
  const shop = open();
  await shop.forget((await shop.pending())[0]);
  assert.equal((await reading(open().buy(CART)).end).at(-1).status, 'confirmed');
  await assert.rejects(other.end, { code: 'gave_up' });
  assert.equal(api.orders.size, 1, 'the buyer wanted one');
});

test('what one tab sees refused, another one does not send', limit, async (t) => {
  const { api, open } = await stage(t);
  // One tab repeats at once, the other half a second later.
  let tabs = 0;
  t.mock.method(Math, 'random', () => (tabs++ ? 0.99 : 0));
  api.scripts.POST.push(overloaded);
  const one = reading(open().buy(CART));
  await until(() => one.states.at(-1)?.problem);
  api.scripts.POST.push(() => problem(409, 'sold_out'));
  const other = reading(open().buy(CART));
  assert.equal((await one.end).at(-1).status, 'rejected');
  await assert.rejects(other.end, { code: 'gave_up' });
  assert.equal(api.orders.size, 0);
});

test('refusals, however many, push out no order that is under way', limit, async (t) => {
  const { api, open } = await stage(t);
  const page = load((options) => open().buy(CART, options));
  await until(() => page.statuses().includes('queued'));
  await unload(page);
  api.habits.POST = () => problem(409, 'sold_out');
  for (let i = 0; i < 25; i++) await reading(open().buy({ items: [{ sku: `p-${i}`, quantity: 1 }] })).end;
  const pending = await open().pending();
  assert.deepEqual(
    pending.map((it) => it.order_id),
    ['order-1'],
  );
});

test('after a lost answer a closed door is asked again, because the order may be queued', limit, async (t) => {
  const { api, open } = await stage(t);
  api.scripts.POST.push(LOSSES['after the request was taken'], () => problem(409, 'paused'));
  const purchase = reading(open().buy(CART));
  await until(() => purchase.statuses().includes('queued'));
  assert.ok(purchase.states.some((it) => it.problem?.code === 'paused' && it.status === 'sending'));
  api.change(undefined, { status: 'confirmed' });
  assert.equal((await purchase.end).at(-1).status, 'confirmed');
  assert.equal(api.orders.size, 1);
});

test('a reload while it waits says why, and pages that come back spread', limit, async (t) => {
  const { api, open } = await stage(t);
  api.scripts.POST.push(() => problem(503, 'paused', { 'retry-after': '1' }));
  const page = load((options) => open().buy(CART, options));
  await until(() => page.states.some((it) => it.problem));
  await unload(page);
  const again = Array.from({ length: 6 }, () => reading(open().resume()));
  await until(() => again.every((it) => it.states.some((state) => state.problem?.code === 'paused' && state.retry_at)));
  await until(() => api.count('POST') === 7);
  const times = api.requests.filter((it) => it.route === 'POST').map((it) => it.at);
  assert.ok(times[1] - times[0] >= 999, 'nobody comes early');
  assert.ok(times[6] - times[1] > 20, 'nor all at once');
  api.change(undefined, { status: 'confirmed' });
  for (const { end } of again) await end;
});

test('a cart is the same in any order of its items, and another one is another purchase', limit, async (t) => {
  const { api, open } = await stage(t);
  const items = [
    { sku: 'a', quantity: 1 },
    { sku: 'b', quantity: 2, unit_price_minor: 100 },
  ];
  const carts = [
    { items },
    { items: [...items].reverse() },
    { items: [items[0]] },
    { items, customer_id: 'c-1' },
    { items: [items[0], { ...items[1], unit_price_minor: 90 }] },
  ];
  for (const cart of carts) {
    const page = load((options) => open().buy(cart, options));
    await until(() => page.statuses().includes('queued'));
    await unload(page);
  }
  assert.equal(api.orders.size, 4);
  const pending = await open().pending();
  assert.deepEqual(
    pending.map((it) => it.order_id),
    ['order-4', 'order-3', 'order-2', 'order-1'],
  );
});

test('an outcome that nobody saw is shown after a reload, and the next purchase is a new one', limit, async (t) => {
  const { api, open, storage } = await stage(t);
  const first = open().buy(CART);
  while ((await first.next()).value.status !== 'queued');
  const next = first.next();
  await until(() => api.streams.size);
  api.change(undefined, { status: 'confirmed' });
  let state = await next;
  while (state.value.status !== 'confirmed') state = await first.next();
  // The page is gone while it shows this. A page that does not resume buys anew:
  const other = open().buy(CART);
  await other.next();
  await other.next();
  assert.equal(api.orders.size, 2);
  await other.return();
  // And one that resumes sees it.
  storage.setItem(
    `hotrow ${api.url}`,
    JSON.stringify([{ ...CART, key: 'k', at: Date.now(), order_id: 'order-1', is_over: true }]),
  );
  const states = await reading(open().resume()).end;
  assert.deepEqual(steps(states), ['sending', 'confirmed']);
  assert.equal(storage.text, '');
});

test('a stored order that came to nothing does not keep the buyer from buying', limit, async (t) => {
  const { api, open } = await stage(t);
  for (const [i, status] of ['expired', 'cancelled', 'rejected', 'failed'].entries()) {
    const page = load((options) => open().buy(CART, options));
    await until(() => page.statuses().includes('queued'));
    await unload(page);
    api.change(undefined, { status });
    api.settlesAs = 'confirmed';
    assert.equal((await reading(open().buy(CART)).end).at(-1).status, 'confirmed');
    api.settlesAs = null;
    assert.equal(api.orders.size, 2 * (i + 1));
  }
});

test('a stored order that was confirmed meanwhile is shown, and not bought twice', limit, async (t) => {
  const { api, open } = await stage(t);
  const page = load((options) => open().buy(CART, options));
  await until(() => page.statuses().includes('queued'));
  await unload(page);
  api.change(undefined, { status: 'confirmed' });
  assert.deepEqual(steps(await reading(open().buy(CART)).end), ['sending', 'confirmed']);
  assert.equal(api.orders.size, 1);
});

test('a stored order of somebody else is left alone', limit, async (t) => {
  const { api, open } = await stage(t);
  const page = load((options) => open().buy(CART, options));
  await until(() => page.statuses().includes('queued'));
  await unload(page);
  api.orders.delete('order-1');
  await assert.rejects(reading(open().resume()).end, { code: 'not_found' });
  assert.deepEqual(await open().pending(), [], 'and it is gone');
  api.settlesAs = 'confirmed';
  assert.equal((await reading(open().buy(CART)).end).at(-1).status, 'confirmed');
});

test('without a stored purchase, resume yields nothing', limit, async (t) => {
  const { api, open } = await stage(t);
  assert.deepEqual(await reading(open().resume()).end, []);
  assert.equal(api.requests.length, 0);
});

test('an old purchase is not sent by itself, and its key is not used once Hotrow may not know it', limit, async (t) => {
  const { api, open, storage } = await stage(t);
  api.settlesAs = 'confirmed';
  const store = (age, order_id = null) =>
    storage.setItem(
      `hotrow ${api.url}`,
      JSON.stringify([{ ...CART, key: `of ${age}`, at: Date.now() - age * HOUR, order_id, is_over: false }]),
    );
  store(2);
  assert.deepEqual(await reading(open().resume()).end, []);
  assert.equal(api.requests.length, 0);
  await reading(open().buy(CART)).end;
  assert.equal(api.requests[0].key, 'of 2', 'the buyer has asked again, and it may have been taken');
  for (const age of [24, -24]) {
    store(age);
    api.requests.length = 0;
    await reading(open().buy(CART)).end;
    assert.notEqual(api.requests[0].key, `of ${age}`);
  }
  store(160, 'order-1');
  assert.equal((await open().pending()).length, 1);
  store(170, 'order-1');
  assert.equal((await open().pending()).length, 0);
});

test('few purchases are stored, and forgotten when the shop says so', limit, async (t) => {
  const { open, storage } = await stage(t);
  for (let i = 1; i <= 25; i++) {
    const purchase = open().buy({ items: [{ sku: `sku-${i}`, quantity: 1 }] });
    await purchase.next();
    await purchase.return();
  }
  const pending = await open().pending();
  assert.equal(pending.length, 20);
  assert.equal(pending[0].items[0].sku, 'sku-25');
  await open().forget(pending[0]);
  assert.equal((await open().pending())[0].items[0].sku, 'sku-24');
  await open().forget();
  assert.equal(storage.text, '');
});
