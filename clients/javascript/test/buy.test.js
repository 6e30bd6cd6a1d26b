/** One purchase, from the first state to the last. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { HotrowError, why } from '../hotrow.js';
import { LOSSES, problem } from './api.js';
import { CART, MemoryStorage, reading, stage, steps, until } from './tools.js';

const limit = { timeout: 15_000 };

test('a purchase is sent, queued, reserved and confirmed', limit, async (t) => {
  const { api, open, storage } = await stage(t);
  const purchase = reading(open().buy(CART));
  await until(() => purchase.statuses().includes('queued') && api.streams.size);
  api.change(undefined, { status: 'reserved', expires_at: '2026-12-01T10:10:00.000Z' });
  await until(() => purchase.statuses().includes('reserved'));
  api.change(undefined, { status: 'confirmed' });
  const states = await purchase.end;
  assert.deepEqual(steps(states), ['sending', 'queued', 'reserved', 'confirmed']);
  assert.equal(states[0].order, null);
  assert.equal(states.find((it) => it.status === 'reserved').order.expires_at, '2026-12-01T10:10:00.000Z');
  assert.deepEqual(Object.keys(states[0]), ['status', 'order', 'problem', 'retry_at']);
  assert.deepEqual(api.cart, CART);
  assert.equal(storage.text, '', 'what is over and shown is no longer stored');
});

test('nothing is sent before the iteration begins', limit, async (t) => {
  const { api, open, storage } = await stage(t);
  open().buy(CART);
  await open().buy(CART).return();
  assert.equal(api.requests.length, 0);
  assert.equal(storage.text, '');
});

test('key and cart are stored before the first byte leaves, and the id as soon as it is known', limit, async (t) => {
  const { api, open, storage } = await stage(t);
  let stored;
  api.scripts.POST.push(
    (request) => void (stored = { text: storage.text, key: request.headers['idempotency-key'] }),
    undefined,
  );
  const purchase = reading(open().buy(CART));
  await until(() => stored);
  const [entry] = JSON.parse(stored.text);
  assert.equal(entry.key, stored.key);
  assert.deepEqual(entry.items, CART.items);
  assert.equal(entry.order_id, null);
  api.sockets.forEach((it) => it.destroy());
  await until(() => purchase.statuses().includes('queued'));
  assert.equal(JSON.parse(storage.text)[0].order_id, 'order-1');
  api.change(undefined, { status: 'confirmed' });
  await purchase.end;
});

for (const [moment, lose] of Object.entries(LOSSES)) {
  test(`a connection that is lost ${moment} is no second order`, limit, async (t) => {
    const { api, open } = await stage(t);
    api.settlesAs = 'confirmed';
    api.scripts.POST.push(lose, lose);
    api.scripts.live.push(lose);
    const states = await reading(open().buy(CART)).end;
    assert.deepEqual(steps(states), ['sending', 'queued', 'confirmed']);
    assert.equal(api.orders.size, 1);
    assert.equal(api.count('POST'), 3);
    assert.equal(new Set(api.requests.filter((it) => it.route === 'POST').map((it) => it.key)).size, 1);
    const lost = states.find((it) => it.problem);
    assert.equal(lost.problem.code, 'connection_lost');
    assert.ok(Date.parse(lost.retry_at));
  });
}

test('a repeat never comes before Retry-After', limit, async (t) => {
  const { api, open } = await stage(t);
  api.settlesAs = 'confirmed';
  // The jitter comes on top, and may be nothing.
  t.mock.method(Math, 'random', () => 0);
  api.scripts.POST.push(
    () => problem(503, 'overloaded', { 'retry-after': '1' }),
    () => problem(429, 'rate_limited', { 'retry-after': '1' }),
    () => problem(408, 'request_timeout'),
    () =>
      problem(
        503,
        'paused',
        { 'retry-after': new Date(Date.now() + 3500).toUTCString() },
        { until: '2030-01-01T00:00:00.000Z' },
      ),
  );
  const states = await reading(open().buy(CART)).end;
  const problems = states.filter((it) => it.problem);
  assert.deepEqual(
    problems.map((it) => it.problem.code),
    ['overloaded', 'rate_limited', 'request_timeout', 'paused'],
  );
  assert.deepEqual(
    problems.map((it) => it.status),
    Array(4).fill('sending'),
  );
  const posts = api.requests.filter((it) => it.route === 'POST');
  const gaps = posts.slice(1).map((it, i) => it.at - posts[i].at);
  assert.ok(gaps[0] >= 999 && gaps[1] >= 999, `${gaps}`);
  assert.ok(Date.now() >= Date.parse(problems[3].retry_at) - 1);
  assert.equal(new Set(posts.map((it) => it.key)).size, 1);
});

test('what a gateway answers for a Hotrow that it cannot reach counts as a lost connection', limit, async (t) => {
  const { api, open } = await stage(t);
  api.settlesAs = 'confirmed';
  for (const status of [502, 504])
    api.scripts.POST.push(() => ({ status, headers: { 'content-type': 'text/html' }, text: '<h1>Bad</h1>' }));
  const states = await reading(open().buy(CART)).end;
  assert.deepEqual(
    states.filter((it) => it.problem).map((it) => it.problem.code),
    ['http_502', 'http_504'],
  );
  assert.equal(api.orders.size, 1);
});

test('after outcome_unknown the same key is sent again', limit, async (t) => {
  const { api, open } = await stage(t);
  api.settlesAs = 'confirmed';
  // The id of such an answer reads queued for ever, if the order never reached the broker.
  api.scripts.POST.push(() =>
    problem(503, 'outcome_unknown', {}, { order_id: 'order-x', status_url: '/v1/orders/order-x' }),
  );
  const states = await reading(open().buy(CART)).end;
  assert.equal(states.at(-1).order.order_id, 'order-1');
  assert.equal(new Set(api.requests.filter((it) => it.route === 'POST').map((it) => it.key)).size, 1);
  assert.ok(!api.requests.some((it) => it.path.includes('order-x')));
});

test('what the door does not sell is a state, and the next purchase has a new key', limit, async (t) => {
  const { api, open, storage } = await stage(t);
  const refusals = [
    [409, 'sold_out', {}, {}, 'sold_out'],
    [409, 'sold_out', { 'retry-after': '5' }, { state: 'all_held' }, 'all_held'],
    [409, 'limit_reached', {}, { limit: 2 }, 'limit_reached'],
    [409, 'paused', {}, {}, 'paused'],
    [409, 'not_open', { 'retry-after': '60' }, { opens_at: '2026-12-01T10:00:00.000Z' }, 'not_open'],
    [409, 'closed', {}, {}, 'closed'],
    [409, 'price_changed', {}, { unit_price_minor: 5900 }, 'price_changed'],
    [409, 'currency_mismatch', {}, {}, 'currency_mismatch'],
    [422, 'unknown_sku', {}, {}, 'unknown_sku'],
    [409, 'of_the_future', {}, {}, 'of_the_future'],
  ];
  for (const [status, code, headers, members, word] of refusals) {
    api.scripts.POST.push(() => problem(status, code, headers, members));
    const states = await reading(open().buy(CART)).end;
    const last = states.at(-1);
    assert.deepEqual(steps(states), ['sending', 'rejected'], code);
    assert.equal(last.problem.code, code);
    assert.equal(last.order, null);
    assert.equal(why(last), word);
    assert.equal(last.retry_at !== null, 'retry-after' in headers, code);
    assert.deepEqual(await open().pending(), []);
    for (const word of ['chair-123', 'c-42', code]) assert.ok(!storage.text.includes(word), 'only the key is kept');
  }
  assert.equal(new Set(api.requests.map((it) => it.key)).size, refusals.length);
});

test('what settling rejects is a state with its order and reason', limit, async (t) => {
  const { api, open } = await stage(t);
  const purchase = reading(open().buy(CART));
  await until(() => api.streams.size);
  api.change(undefined, { status: 'rejected', reason: 'sold_out' });
  const last = (await purchase.end).at(-1);
  assert.equal(last.status, 'rejected');
  assert.equal(why(last), 'sold_out');
  assert.equal(last.problem, null);
});

test(
  'statuses, reasons and members of the future are passed on, and such an order is followed further',
  limit,
  async (t) => {
    const { api, open } = await stage(t);
    const purchase = reading(open().buy(CART));
    await until(() => api.streams.size);
    api.change(undefined, { status: 'being_wrapped', reason: 'a_bow', ribbon: { colour: 'red' } });
    await until(() => purchase.statuses().includes('being_wrapped'));
    assert.deepEqual(purchase.states.at(-1).order.ribbon, { colour: 'red' });
    assert.equal(why(purchase.states.at(-1)), 'a_bow');
    api.change(undefined, { status: 'confirmed' });
    assert.deepEqual(steps(await purchase.end), ['sending', 'queued', 'being_wrapped', 'confirmed']);
  },
);

test('defects are thrown with what Hotrow said, at once', limit, async (t) => {
  const { api, open } = await stage(t);
  for (const [status, code] of [
    [400, 'malformed'],
    [401, 'unauthorized'],
    [403, 'forbidden'],
    [404, 'not_found'],
    [413, 'too_large'],
    [422, 'invalid'],
    [422, 'idempotency_mismatch'],
    [418, 'of_the_future'],
    [500, 'oops'],
  ]) {
    api.scripts.POST.push(() => problem(status, code));
    await assert.rejects(
      reading(open().buy(CART)).end,
      (error) => error instanceof HotrowError && error.code === code && error.problem.status === status,
    );
  }
  assert.equal(api.requests.length, 9);
});

test('a key outlives a missing token, and is dropped with a request that is wrong in itself', limit, async (t) => {
  const { api, open, storage } = await stage(t);
  api.scripts.POST.push(
    () => problem(401, 'unauthorized'),
    () => problem(422, 'invalid'),
  );
  await assert.rejects(reading(open().buy(CART)).end);
  assert.notEqual(storage.text, '');
  await assert.rejects(reading(open().buy(CART)).end);
  assert.equal(api.requests[0].key, api.requests[1].key);
  assert.deepEqual(await open().pending(), []);
});

test('a page that answers for Hotrow is a defect, and not repeated', limit, async (t) => {
  const { api, open } = await stage(t);
  api.scripts.POST.push(() => ({
    status: 200,
    headers: { 'content-type': 'text/html' },
    text: '<h1>Log in to our wireless network</h1>',
  }));
  await assert.rejects(reading(open().buy(CART)).end, { code: 'not_hotrow' });
});

test('the token is asked for before every request, and what it throws is thrown', limit, async (t) => {
  const { api, open } = await stage(t);
  api.settlesAs = 'confirmed';
  let asked = 0;
  await reading(open({ token: async () => `token-${++asked}` }).buy(CART)).end;
  assert.deepEqual(
    api.requests.map((it) => it.authorization),
    ['Bearer token-1', 'Bearer token-2'],
  );
  const failing = open({
    token: async () => {
      throw new Error('log in first');
    },
  });
  await assert.rejects(reading(failing.buy(CART)).end, { message: 'log in first' });
  const broken = open({ token: 'line\nbreak' });
  await assert.rejects(reading(broken.buy(CART)).end, TypeError);
  await reading(open({ token: 'plain' }).buy(CART)).end;
  assert.equal(api.requests.at(-1).authorization, 'Bearer plain');
});

test('onState hears of every state of every purchase', limit, async (t) => {
  const { api, open } = await stage(t);
  api.settlesAs = 'confirmed';
  const heard = [];
  const states = await reading(open({ onState: (state, purchase) => heard.push([state, purchase.items]) }).buy(CART))
    .end;
  assert.deepEqual(
    heard.map(([state]) => state),
    states,
  );
  assert.deepEqual(heard[0][1], CART.items);
});

test('an order can be cancelled, and the purchase hears of it at once', limit, async (t) => {
  const { api, open } = await stage(t);
  const shop = open();
  const purchase = reading(shop.buy(CART));
  await until(() => api.streams.size);
  api.scripts.cancel.push(() => ({
    status: 202,
    headers: { 'content-type': 'application/json' },
    text: JSON.stringify({ order: api.orders.get('order-1') }),
  }));
  assert.equal((await shop.cancel('order-1')).problem.code, 'not_settled', 'it is under way');
  const early = await shop.cancel('order-1');
  assert.equal(early.status, 'queued');
  assert.equal(early.problem.code, 'not_settled');
  assert.ok(early.retry_at);
  api.change(undefined, { status: 'reserved' });
  api.scripts.cancel.push(() => problem(503, 'outcome_unknown', {}, { order_id: 'order-1' }));
  assert.equal((await shop.cancel('order-1')).status, 'cancelled');
  assert.equal((await purchase.end).at(-1).status, 'cancelled');
  const late = await shop.cancel('order-1');
  assert.equal(late.status, 'cancelled');
  assert.equal(late.problem.code, 'conflict');
  await assert.rejects(shop.cancel('order-9'), { code: 'not_found' });
});

test('an order and a product can be asked for; a promise does not wait for ever', limit, async (t) => {
  const { api, open } = await stage(t);
  const shop = open();
  api.setStock('chair-123', { available: 10 });
  api.scripts.inventory.push(LOSSES['before the request is taken']);
  assert.equal((await shop.stock('chair-123')).available, 10);
  await assert.rejects(shop.stock('nothing'), { code: 'not_found' });
  api.place('k', CART);
  assert.equal((await shop.order('order-1')).status, 'queued');
  api.scripts.GET.push(() => problem(503, 'unavailable', { 'retry-after': '3600' }));
  await assert.rejects(
    shop.order('order-1'),
    (error) => error.code === 'unavailable' && Date.parse(error.retry_at) > Date.now(),
  );
  const abort = new AbortController();
  api.scripts.GET.push(() => void abort.abort(new Error('enough')));
  await assert.rejects(shop.order('order-1', { signal: abort.signal }), { message: 'enough' });
});

test('a storage that throws loses no purchase', limit, async (t) => {
  const { api, open } = await stage(t);
  api.settlesAs = 'confirmed';
  const full = new MemoryStorage();
  full.setItem = () => {
    throw new DOMException('full', 'QuotaExceededError');
  };
  const forbidden = {
    getItem() {
      throw new Error('no');
    },
    setItem() {
      throw new Error('no');
    },
    removeItem() {
      throw new Error('no');
    },
  };
  const rejecting = {
    getItem: async () => Promise.reject(new Error('locked')),
    setItem: async () => Promise.reject(new Error('locked')),
    removeItem: async () => Promise.reject(new Error('locked')),
  };
  const foreign = new MemoryStorage();
  foreign.setItem(`hotrow ${api.url}`, '{"not":"ours"}');
  for (const storage of [full, forbidden, rejecting, foreign, undefined]) {
    api.scripts.POST.push(LOSSES['after the request was taken']);
    const before = api.orders.size;
    const shop = open({ storage });
    const both = [reading(shop.buy(CART)), reading(shop.buy(CART))];
    for (const { end } of both) assert.equal((await end).at(-1).status, 'confirmed');
    assert.equal(api.orders.size, before + 1, 'of two clicks at once');
    assert.deepEqual(await shop.pending(), []);
  }
});

test('an asynchronous storage works, too', limit, async (t) => {
  const { api, open, storage } = await stage(t);
  api.settlesAs = 'confirmed';
  const later = Object.fromEntries(
    ['getItem', 'setItem', 'removeItem'].map((name) => [name, async (...all) => storage[name](...all)]),
  );
  const shop = open({ storage: later });
  const both = [reading(shop.buy(CART)), reading(shop.buy(CART))];
  await Promise.all(both.map((it) => it.end));
  assert.equal(api.orders.size, 1);
  assert.equal(storage.text, '');
});
