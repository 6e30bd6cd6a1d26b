/**
 * A small server that plays Hotrow's API, and plays it badly where a test asks for it. What it was asked is on record.
 */
import { once } from 'node:events';
import http from 'node:http';

/** The ways in which an answer can fail to arrive. The order may have been taken all the same. */
export const LOSSES = {
  'before the request is taken': (_request, response) => response.destroy(),
  'after the request was taken': (_request, response, answer) => {
    answer();
    response.destroy();
  },
  'in the middle of the body': (_request, response, answer) => {
    const { status, headers, text } = answer();
    response.writeHead(status, { ...headers, 'content-length': text.length });
    response.write(text.slice(0, text.length / 2), () => response.destroy());
  },
};

export const problem = (status, code, headers = {}, members = {}) => ({
  status,
  headers: { 'content-type': 'application/problem+json', ...headers },
  text: JSON.stringify({
    type: `urn:hotrow:problem:${code}`,
    title: code,
    status,
    detail: `it is ${code}`,
    code,
    request_id: 'r-1',
    ...members,
  }),
});

const json = (body, status = 200) => ({
  status,
  headers: { 'content-type': 'application/json' },
  text: JSON.stringify(body),
});

const notFound = () => problem(404, 'not_found');

export async function startApi() {
  const api = new Api();
  api.server.listen(0, '127.0.0.1');
  await once(api.server, 'listening');
  api.url = `http://127.0.0.1:${api.server.address().port}`;
  return api;
}

class Api {
  /** Every request, as `METHOD /path`, with its key and its token. */
  requests = [];
  /** Orders by id, and ids by key. */
  orders = new Map();
  keys = new Map();
  stock = new Map();
  /** What happens to the next requests of a route instead of the right thing, the first first. */
  scripts = { POST: [], GET: [], live: [], inventory: [], cancel: [] };
  /** What happens to requests for which there is no script. */
  habits = {};
  streams = new Set();
  sockets = new Set();
  /** Requests that are not answered to their end. */
  open = new Set();
  waiting = new Set();
  /** What an order becomes as soon as it is placed, if anything. */
  settlesAs = null;

  constructor() {
    this.server = http.createServer((request, response) => this.serve(request, response));
    this.server.on('connection', (socket) => {
      this.sockets.add(socket);
      socket.on('close', () => this.sockets.delete(socket));
      socket.on('error', () => {});
    });
  }

  async close() {
    this.server.close();
    this.server.closeAllConnections();
    await once(this.server, 'close');
  }

  count(route) {
    return this.requests.filter((it) => it.route === route).length;
  }

  async serve(request, response) {
    const { pathname, searchParams } = new URL(request.url, 'http://api');
    const route = routeOf(request.method, pathname);
    const { authorization, 'idempotency-key': key } = request.headers;
    this.requests.push({ route, path: request.url, key, authorization, at: performance.now() });
    response.on('error', () => {});
    this.open.add(response);
    response.on('close', () => this.open.delete(response));
    let body = '';
    for await (const piece of request) body += piece;
    const answer = () => this.answer(route, pathname, searchParams, key, body);
    const misbehave = this.scripts[route]?.shift() ?? this.habits[route];
    const given = misbehave ? misbehave(request, response, answer) : undefined;
    if (misbehave && !given) return;
    if (!given && route === 'live') return this.stream(response, searchParams);
    if (!given && route === 'GET') await this.wait(pathname, searchParams, response);
    if (response.destroyed) return;
    const { status, headers, text } = given ?? answer();
    response.writeHead(status, headers).end(text);
  }

  answer(route, pathname, searchParams, key, body) {
    if (route === 'POST') return this.place(key, JSON.parse(body));
    if (route === 'cancel') return this.cancel(pathname.split('/')[3]);
    if (route === 'inventory') {
      const stock = this.stock.get(decodeURIComponent(pathname.split('/')[3]));
      return stock ? json({ title: 'Chair', ...stock }) : notFound();
    }
    if (route !== 'GET') return notFound();
    const ids = searchParams.get('ids')?.split(',') ?? [pathname.split('/')[3]];
    const orders = ids.map((id) => this.orders.get(id));
    if (orders.includes(undefined)) return notFound();
    if (searchParams.has('ids')) return json({ orders });
    const after = searchParams.get('after_revision');
    const isKnown = after !== null && (orders[0].revision ?? 0) <= +after;
    return isKnown ? { status: 304, headers: {}, text: '' } : json(orders[0]);
  }

  place(key, { items, customer_id }) {
    const order_id = this.keys.get(key) ?? `order-${this.orders.size + 1}`;
    if (!this.keys.has(key)) {
      this.keys.set(key, order_id);
      this.orders.set(order_id, { order_id, status: 'queued', estimated_wait_ms: 40 });
      this.cart = { items, customer_id };
      if (this.settlesAs) this.change(order_id, { status: this.settlesAs });
    }
    return json({ order_id, status: 'queued', status_url: `/v1/orders/${order_id}`, estimated_wait_ms: 40 }, 202);
  }

  cancel(id) {
    const order = this.orders.get(id);
    if (!order) return notFound();
    if (order.status === 'queued') return problem(409, 'not_settled', { 'retry-after': '1' });
    if (order.status !== 'reserved') return problem(409, 'conflict', {}, { order });
    return json(this.change(id, { status: 'cancelled', reason: 'by_customer' }));
  }

  /** The order becomes this; without an id, the only one there is. */
  change(id = [...this.orders.keys()].at(-1), members) {
    const old = this.orders.get(id);
    const order = { reason: null, expires_at: null, ...old, revision: (old.revision ?? 0) + 1, ...members };
    delete order.estimated_wait_ms;
    this.orders.set(id, order);
    for (const stream of this.streams) if (stream.orders.includes(id)) stream.tell('order', order);
    for (const look of [...this.waiting]) look();
    return order;
  }

  setStock(sku, members) {
    const old = this.stock.get(sku) ?? { sku, available: 0, held: 0, state: 'open', version: 0 };
    const stock = { ...old, version: old.version + 1, ...members };
    this.stock.set(sku, stock);
    for (const stream of this.streams) if (stream.skus.includes(sku)) stream.tell('stock', stock);
  }

  /** A long poll. */
  async wait(pathname, searchParams, response) {
    const seconds = Number(searchParams.get('wait') ?? 0);
    const after = Number(searchParams.get('after_revision') ?? 0);
    const id = pathname.split('/')[3];
    const isDone = () => (this.orders.get(id)?.revision ?? 0) > after;
    if (!seconds || !this.orders.has(id) || isDone()) return;
    await new Promise((resolve) => {
      const end = () => {
        clearTimeout(timer);
        this.waiting.delete(look);
        resolve();
      };
      const look = () => isDone() && end();
      const timer = setTimeout(end, seconds * 1000);
      this.waiting.add(look);
      response.on('close', end);
    });
  }

  stream(response, searchParams) {
    const list = (name) => (searchParams.get(name) ?? '').split(',').filter(Boolean);
    const stream = { orders: list('orders'), skus: list('skus'), response };
    const orders = stream.orders.map((id) => this.orders.get(id));
    const stocks = stream.skus.map((sku) => this.stock.get(sku));
    if ([...orders, ...stocks].includes(undefined)) return this.refuse(response, notFound());
    response.writeHead(200, { 'content-type': 'text/event-stream', 'cache-control': 'no-store' });
    stream.tell = (event, data) => response.write(`event: ${event}\ndata: ${JSON.stringify(data)}\n\n`);
    response.write(': welcome\nretry: 10\n\n');
    for (const order of orders) stream.tell('order', order);
    for (const stock of stocks) stream.tell('stock', stock);
    this.streams.add(stream);
    response.on('close', () => this.streams.delete(stream));
  }

  refuse(response, { status, headers, text }) {
    response.writeHead(status, headers).end(text);
  }

  cutStreams() {
    for (const { response } of this.streams) response.destroy();
  }
}

function routeOf(method, path) {
  if (path === '/v1/live') return 'live';
  if (path.startsWith('/v1/inventory/')) return 'inventory';
  if (path.endsWith('/cancel')) return 'cancel';
  return path.startsWith('/v1/orders') ? method : 'unknown';
}
