/** Where streams die young: purchases and stock are polled. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { LOSSES, problem } from './api.js';
import { CART, heard, reading, stage, steps, until, watching } from './tools.js';

const limit = { timeout: 18_000 };

/** What proxies and servers do to streams. */
const BAD_STREAMS = {
  'has another content type': () => ({ status: 200, headers: { 'content-type': 'text/html' }, text: '<p>hello</p>' }),
  'is not there': () => problem(404, 'not_found'),
  'is refused because there are too many': () => problem(503, 'overloaded', { 'retry-after': '600' }),
  'is held back by a proxy that buffers': (_request, response) => {
    response.writeHead(200, { 'content-type': 'text/event-stream' });
    response.flushHeaders();
  },
  'never begins': () => undefined,
  'is cut as soon as it begins': (_request, response) => {
    response.writeHead(200, { 'content-type': 'text/event-stream' });
    response.write(': hello\nretry: 10\n\n', () => response.destroy());
  },
  'is reset before it begins': LOSSES['before the request is taken'],
};

describe('a purchase is followed by long polls', { concurrency: true }, () => {
  for (const [fault, habit] of Object.entries(BAD_STREAMS))
    test(`where a stream ${fault}`, limit, (t) => isFollowed(t, habit));

  test('but a stream that has begun may be silent for longer than one that has not', limit, async (t) => {
    const { api, open } = await stage(t);
    api.setStock('chair-123', { available: 5 });
    const watch = watching(t, open(), { skus: ['chair-123'] });
    await until(() => watch.states.length);
    await sleep(4_500);
    assert.equal(api.count('live'), 1);
    assert.equal(api.streams.size, 1);
  });
});

async function isFollowed(t, habit) {
  const { api, open } = await stage(t);
  api.habits.live = habit;
  const purchase = reading(open().buy(CART));
  await until(() => api.waiting.size);
  const before = api.count('GET');
  api.change(undefined, { status: 'reserved' });
  await until(() => purchase.statuses().includes('reserved'));
  const heardAt = performance.now();
  await until(() => api.waiting.size);
  assert.ok(performance.now() - heardAt < 500, 'after news it asks at once');
  api.change(undefined, { status: 'confirmed' });
  assert.deepEqual(steps(await purchase.end), ['sending', 'queued', 'reserved', 'confirmed']);
  assert.ok(api.count('live') <= 2, 'it does not try again and again');
  const isReset = habit === BAD_STREAMS['is reset before it begins'];
  assert.equal(
    purchase.states.some((it) => it.problem),
    isReset,
    'a stream that cannot be had is no problem',
  );
  assert.ok(api.count('GET') - before <= 2, 'a poll waits');
  assert.ok(api.requests.some((it) => it.path.endsWith('?wait=25&after_revision=1')));
}

test('where there are no streams, stock is polled, and several orders by one request', limit, async (t) => {
  const { api, open } = await stage(t);
  api.habits.live = BAD_STREAMS['is not there'];
  api.setStock('chair-123', { available: 5, version: 2, as_of: '2026-12-01T10:00:01.000Z' });
  for (const key of ['k', 'l']) api.place(key, CART);
  const watch = watching(t, open(), { skus: ['chair-123'], orders: ['order-1', 'order-2'] });
  await until(() => watch.states.length === 3);
  // Another process, which is behind, and then the first again.
  api.setStock('chair-123', { available: 6, version: 1, as_of: '2026-12-01T10:00:00.000Z' });
  const asked = api.count('inventory');
  await until(() => api.count('inventory') > asked);
  api.setStock('chair-123', { available: 4, version: 3, as_of: '2026-12-01T10:00:02.000Z' });
  api.change('order-2', { status: 'confirmed' });
  await until(() => watch.states.length === 5);
  // The database has failed over, and the last write is lost.
  api.setStock('chair-123', { available: 5, version: 2, as_of: '2026-12-01T10:00:03.000Z' });
  await until(() => watch.states.length === 6);
  assert.deepEqual(
    heard(watch, 'stock').map((it) => it.available),
    [5, 4, 5],
  );
  assert.ok(api.requests.some((it) => it.path === '/v1/orders?ids=order-1,order-2'));
});

test('stock that was polled does not let an older stream through', limit, async (t) => {
  const { api, open } = await stage(t);
  const stock = { sku: 'chair-123', available: 5, held: 0, state: 'open', version: 7 };
  api.stock.set(stock.sku, stock);
  const watch = watching(t, open(), { skus: [stock.sku] });
  await until(() => watch.states.length === 1);
  api.habits.live = BAD_STREAMS['is not there'];
  api.stock.set(stock.sku, { ...stock, available: 4, version: 8, as_of: '2026-12-01T10:00:00.000Z' });
  api.cutStreams();
  await until(() => watch.states.length === 2);
  // A process that is behind, by a stream, once streams are tried again.
  api.habits = {};
  api.stock.set(stock.sku, { ...stock, available: 6, version: 7 });
  const now = performance.now.bind(performance);
  t.mock.method(performance, 'now', () => now() + 3_600_000);
  await until(() => api.streams.size);
  api.setStock(stock.sku, { available: 3, version: 9 });
  await until(() => watch.states.length > 2);
  assert.deepEqual(
    heard(watch, 'stock').map((it) => it.available),
    [5, 4, 3],
  );
});
