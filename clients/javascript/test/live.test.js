/** Stock and orders as they change, by streams good and bad. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { LOSSES, problem } from './api.js';
import { CART, heard, reading, stage, until, watching } from './tools.js';

const limit = { timeout: 18_000 };

test('stock and orders come as they are, and then with each change, by one stream', limit, async (t) => {
  const { api, open } = await stage(t);
  api.setStock('chair-123', { available: 10 });
  api.place('k', CART);
  const watch = watching(t, open(), { skus: ['chair-123'], orders: ['order-1'] });
  await until(() => watch.states.length === 2);
  api.setStock('chair-123', { available: 9, held: 1 });
  api.change('order-1', { status: 'reserved' });
  await until(() => watch.states.length === 4);
  assert.deepEqual(
    heard(watch, 'stock').map((it) => it.available),
    [10, 9],
  );
  assert.deepEqual(
    heard(watch, 'order').map((it) => it.status),
    ['queued', 'reserved'],
  );
  assert.equal(api.count('live'), 1);
  assert.ok(watch.states.every((it) => [it.stock, it.order, it.problem].filter(Boolean).length === 1));
});

test('all that a page watches comes by one stream, a purchase, too', limit, async (t) => {
  const { api, open } = await stage(t);
  for (const sku of ['a', 'b', 'c']) api.setStock(sku, { available: 1 });
  const shop = open();
  const watches = ['a', 'b', 'c', 'a'].map((sku) => watching(t, shop, { skus: [sku] }));
  const purchase = reading(shop.buy(CART));
  await until(() => [...api.streams].some((it) => it.orders.length === 1 && it.skus.length === 3));
  await until(() => api.streams.size === 1);
  await until(() => watches.every((it) => it.states.length === 1));
  api.setStock('a', { available: 7 });
  await until(() => watches[0].states.length === 2 && watches[3].states.length === 2);
  api.change(undefined, { status: 'confirmed' });
  await purchase.end;
  const asked = api.count('live');
  // Who comes later and wants nothing new hears of it without another stream.
  const late = watching(t, shop, { skus: ['a'] });
  await until(() => late.states.length === 1);
  assert.equal(heard(late, 'stock')[0].available, 7);
  assert.equal(api.count('live'), asked);
  assert.equal(api.streams.size, 1);
  for (const { abort } of [...watches, late]) abort.abort();
  await until(() => !api.streams.size);
});

test('a request that gets no connection has that of the stream, which begins anew', limit, async (t) => {
  const { api, open } = await stage(t);
  api.setStock('chair-123', { available: 3 });
  const shop = open();
  const watch = watching(t, shop, { skus: ['chair-123'] });
  await until(() => api.streams.size === 1);
  const [stream] = api.streams;
  // As a browser holds a request back that has no connection left for it.
  api.scripts.POST.push((_request, response, answer) => {
    until(() => !api.streams.has(stream)).then(() => {
      const { status, headers, text } = answer();
      response.writeHead(status, headers).end(text);
    });
  });
  const purchase = reading(shop.buy(CART));
  await until(() => purchase.states.at(-1)?.status === 'queued');
  assert.equal(api.count('POST'), 1);
  await until(() => api.streams.size === 1);
  api.setStock('chair-123', { available: 2 });
  await until(() => heard(watch, 'stock').at(-1)?.available === 2);
  api.change(undefined, { status: 'confirmed' });
  await purchase.end;
});

test('forty watchers of forty products have two streams, and a purchase has no third', limit, async (t) => {
  const { api, open } = await stage(t);
  const shop = open();
  const skus = Array.from({ length: 40 }, (_, i) => `p-${i}`);
  for (const sku of skus) api.setStock(sku, { available: 1 });
  const watches = skus.map((sku) => watching(t, shop, { skus: [sku] }));
  const purchase = reading(shop.buy(CART));
  await until(() => watches.every((it) => it.states.length) && purchase.statuses().includes('queued'));
  await until(() => [...api.streams].some((it) => it.orders.length));
  assert.equal(api.streams.size, 2);
  for (const { skus } of api.streams) assert.equal(skus.length, 20);
  api.change(undefined, { status: 'confirmed' });
  await purchase.end;
});

test('states never go back, whatever the next stream or poll says', limit, async (t) => {
  const { api, open } = await stage(t);
  api.setStock('chair-123', { available: 10, version: 7 });
  api.place('k', CART);
  api.change('order-1', { status: 'reserved', revision: 1 });
  const shop = open();
  const watch = watching(t, shop, { skus: ['chair-123'], orders: ['order-1'] });
  await until(() => watch.states.length === 2);
  api.change('order-1', { status: 'confirmed', revision: 2 });
  await until(() => watch.states.length === 3);
  const [stream] = api.streams;
  const newest = api.orders.get('order-1');
  stream.tell('stock', { ...api.stock.get('chair-123'), available: 99, version: 6 });
  stream.tell('order', { ...newest, status: 'reserved', revision: 1 });
  stream.tell('order', { order_id: 'order-1', status: 'queued', estimated_wait_ms: 1 });
  // Another process, which is behind:
  api.stock.set('chair-123', { ...api.stock.get('chair-123'), available: 98, version: 5 });
  api.orders.set('order-1', { ...newest, status: 'reserved', revision: 1 });
  api.cutStreams();
  await until(() => api.count('live') === 2 && api.streams.size === 1);
  assert.equal((await shop.order('order-1')).status, 'confirmed');
  api.orders.set('order-1', newest);
  api.setStock('chair-123', { available: 8, version: 8 });
  await until(() => heard(watch, 'stock').at(-1).available === 8);
  assert.deepEqual(
    heard(watch, 'stock').map((it) => it.version),
    [7, 8],
  );
  assert.deepEqual(
    heard(watch, 'order').map((it) => it.revision),
    [1, 2],
  );
});

test('a state that changes without a version, as when a sale opens, is told', limit, async (t) => {
  const { api, open } = await stage(t);
  api.setStock('chair-123', { state: 'not_open' });
  const watch = watching(t, open(), { skus: ['chair-123'] });
  await until(() => watch.states.length === 1);
  api.setStock('chair-123', { state: 'open', version: 1 });
  await until(() => watch.states.length === 2);
  assert.equal(heard(watch, 'stock')[1].state, 'open');
});

test('a stream that is cut is opened again, and nothing is lost', limit, async (t) => {
  const { api, open } = await stage(t);
  api.setStock('chair-123', { available: 10 });
  const watch = watching(t, open(), { skus: ['chair-123'] });
  await until(() => watch.states.length === 1);
  api.cutStreams();
  await until(() => !api.streams.size);
  api.setStock('chair-123', { available: 3 });
  await until(() => heard(watch, 'stock').at(-1).available === 3);
  assert.deepEqual(
    watch.states.filter((it) => it.problem),
    [],
    'a stream that ends is no problem',
  );
});

test('events may come in pieces, with any line ends, comments and what is not known', limit, async (t) => {
  const { api, open } = await stage(t);
  api.scripts.live.push((_request, response) => {
    response.writeHead(200, { 'content-type': 'text/event-stream; charset=utf-8' });
    const text = [
      ': hello\r\nretry: 20\r\n\r\nevent: stock\r\ndata: {"sku":"ä",\rdata:"available":1,"held":0,"state":"open","version":1}\r\r',
      'event: weather\ndata: {"sku":"ä","available":77}\n\ndata: {"sku":"ä","available":78}\n\nid: 1\nevent:stock\nfuture: x\ndata:{"sku":"ä","available":2,"held":0,"state":"on_the_moon","version":2,"note":" "}\r\n\r\n',
      'event: stock\ndata: {"sku":"ä","available":79,"version":3}\n',
    ].join('');
    const bytes = Buffer.from(text);
    let at = 0;
    const next = () =>
      at < bytes.length ? response.write(bytes.subarray(at, ++at), () => setImmediate(next)) : undefined;
    next();
  });
  const watch = watching(t, open(), { skus: ['ä'] });
  await until(() => watch.states.length === 2);
  assert.deepEqual(
    heard(watch, 'stock').map((it) => [it.available, it.state]),
    [
      [1, 'open'],
      [2, 'on_the_moon'],
    ],
  );
});

test('an outage is told with the time of the next try, and its end as well', limit, async (t) => {
  const { api, open } = await stage(t);
  api.setStock('chair-123', { available: 5 });
  const shop = open();
  const watch = watching(t, shop, { skus: ['chair-123'] });
  const purchase = reading(shop.buy(CART));
  await until(
    () =>
      watch.states.length && purchase.statuses().includes('queued') && [...api.streams].some((it) => it.orders.length),
  );
  for (const route of ['live', 'GET', 'inventory'])
    api.habits[route] = () => problem(429, 'rate_limited', { 'retry-after': '1' });
  api.cutStreams();
  await until(() => watch.states.at(-1).problem && purchase.states.at(-1).problem);
  assert.ok(Date.parse(watch.states.at(-1).retry_at));
  assert.equal(purchase.states.at(-1).status, 'queued');
  const began = api.requests.length;
  api.habits = {};
  // Nothing has changed meanwhile, and still both hear that all is well again.
  await until(() => watch.states.at(-1).stock && !purchase.states.at(-1).problem);
  const [refused, next] = api.requests.slice(began - 1);
  assert.ok(next.at - refused.at >= 999, `${next.at - refused.at}`);
  api.change(undefined, { status: 'confirmed' });
  await purchase.end;
});

test('after an outage there is a stream again', { timeout: 10_000 }, async (t) => {
  const { api, open } = await stage(t);
  api.setStock('chair-123', { available: 5 });
  const watch = watching(t, open(), { skus: ['chair-123'] });
  await until(() => watch.states.length);
  for (const route of ['live', 'inventory']) api.habits[route] = LOSSES['before the request is taken'];
  api.cutStreams();
  await until(() => api.count('live') > 2 && api.count('inventory') > 0);
  api.habits = {};
  await until(() => api.streams.size);
});

test('a watcher with a bad wish has its refusal, and the others hear further', limit, async (t) => {
  const { api, open } = await stage(t);
  api.setStock('chair-123', { available: 5 });
  const shop = open();
  const good = watching(t, shop, { skus: ['chair-123'] });
  const purchase = reading(shop.buy(CART));
  await until(() => good.states.length && purchase.statuses().includes('queued'));
  const bad = watching(t, shop, { skus: ['made-up'] });
  await assert.rejects(bad.end, { code: 'not_found' });
  api.setStock('chair-123', { available: 4 });
  await until(() => heard(good, 'stock').at(-1).available === 4);
  // They share a stream again: a page has connections for few of them.
  await until(() => [...api.streams].some((it) => it.orders.length && it.skus.length));
  assert.equal(api.streams.size, 1);
  api.change(undefined, { status: 'confirmed' });
  assert.equal((await purchase.end).at(-1).status, 'confirmed');
});

test('a wish for nothing or for too much is refused at once; watchers together may want more', limit, async (t) => {
  const { api, open } = await stage(t);
  const shop = open();
  const skus = Array.from({ length: 21 }, (_, i) => `sku-${i}`);
  assert.throws(() => shop.live({}), RangeError);
  assert.throws(() => shop.live({ skus }), RangeError);
  for (const sku of skus) api.setStock(sku, { available: 1 });
  const watches = skus.map((sku) => watching(t, shop, { skus: [sku] }));
  await until(() => watches.every((it) => it.states.length));
  assert.ok([...api.streams].every((it) => it.skus.length <= 20));
});

test('a slow reader gets the newest state and not all of them', limit, async (t) => {
  const { api, open } = await stage(t);
  api.setStock('chair-123', { available: 100 });
  const shop = open();
  const slow = shop.live({ skus: ['chair-123'] });
  t.after(() => slow.return());
  await slow.next();
  const quick = watching(t, shop, { skus: ['chair-123'] });
  for (let i = 99; i >= 0; i--) api.setStock('chair-123', { available: i });
  await until(() => heard(quick, 'stock').at(-1)?.available === 0);
  assert.equal((await slow.next()).value.stock.available, 0);
});
