// @ts-check
/** The client of Hotrow for front ends. README.md is its manual; types.d.ts says what each function does. */

/** @import * as T from './types.js' */

/** A defect: neither the buyer nor waiting can fix it. */
export class HotrowError extends Error {
  /**
   * @param {T.Problem} problem
   * @param {string | null} [retry_at]
   */
  constructor(problem, retry_at = null) {
    super(`${problem.title}: ${problem.detail}`);
    this.name = 'HotrowError';
    /** @type {T.Problem} */
    this.problem = problem;
    this.code = problem.code;
    this.retry_at = retry_at;
  }
}

/** @type {T.Why} */
export const why = ({ order, problem }) => {
  if (problem) return (problem.code === 'sold_out' && problem.state) || problem.code;
  return order && 'reason' in order ? order.reason : null;
};

/** Any other may still change, also one that is not known here. */
const FINAL = ['confirmed', 'expired', 'cancelled', 'rejected', 'failed'];
/** 0 is a lost connection, which gateways call 502 or 504. */
const LOST = [0, 408, 502, 504];
const REPEATED = [...LOST, 429, 503];
/** Never to become an order. */
const FAULTY = [400, 413, 415, 422];

// See README.md, Numbers.
const HOUR_MS = 3_600_000;
const KEY_MS = 23 * HOUR_MS;
const RESUMED_MS = HOUR_MS;
const STORED_MS = 168 * HOUR_MS;
const STORED_MAX = 20;
const ANSWER_MS = 20_000;
const SLOW_MS = 3_000;
const BACKOFF_MS = 500;
const BACKOFF_MAX_MS = 30_000;
const PATIENCE_MS = 30_000;
const TIMER_MAX_MS = 2 ** 31 - 1;
const FIRST_BYTE_MS = 4_000;
const SILENCE_MS = 35_000;
const YOUNG_MS = 20_000;
const DISTRUST_MS = 4_000;
const POLL_MS = 2_000;
const WAIT_S = 25;
const THINGS_MAX = 20;
const SEEN_MAX = 200;

/** @type {(ms: number) => string} */
const fromNow = (ms) => new Date(Date.now() + ms).toISOString();

/** @type {(answer: T.Answer) => string | null} */
const retryAt = ({ floor }) => (floor ? fromNow(floor) : null);

/** @type {T.MakeState} */
const state = (status, order = null, problem = null, retry_at = null) => ({ status, order, problem, retry_at });

/** @type {(id: string) => string} */
const orderPath = (id) => `/v1/orders/${encodeURIComponent(id)}`;

/** @type {(sku: string) => string} */
const stockPath = (sku) => `/v1/inventory/${encodeURIComponent(sku)}`;

// ---- waiting

/** @type {T.WaitFor} */
const waitFor = (signal, start) =>
  new Promise((resolve, reject) => {
    if (signal.aborted) return reject(signal.reason);
    /** @type {(() => void) | void} */
    let cleanUp;
    const end = () => {
      signal.removeEventListener('abort', end);
      cleanUp?.();
      signal.aborted ? reject(signal.reason) : resolve();
    };
    signal.addEventListener('abort', end);
    cleanUp = start(end);
  });

/** @type {T.MakeScope} */
function scope(parent, ms) {
  const controller = new AbortController();
  let timer = 0;
  const end = () => {
    clearTimeout(timer);
    parent?.removeEventListener('abort', end);
    controller.abort(parent?.reason);
  };
  /** @type {T.Scope['extend']} */
  const extend = (ms) => {
    clearTimeout(timer);
    timer = setTimeout(end, ms);
  };
  if (ms) extend(ms);
  parent?.addEventListener('abort', end);
  if (parent?.aborted) end();
  return { signal: controller.signal, end, extend };
}

const isHidden = () => globalThis.document?.visibilityState === 'hidden';

/** @type {T.OnPage} */
function onPage(listener) {
  const { document, window } = globalThis;
  /** @type {[EventTarget | undefined, string][]} */
  const targets = [[document, 'visibilitychange'], [window, 'pageshow'], [window, 'online']];
  for (const [target, name] of targets) target?.addEventListener(name, listener);
  return () => targets.forEach(([target, name]) => target?.removeEventListener(name, listener));
}

/** @type {T.Shown} */
const shown = (signal) =>
  waitFor(signal, (resolve) => (isHidden() ? onPage(() => isHidden() || resolve()) : resolve()));

/** @type {T.Pause} */
const pause = ({ ms, floor }, signal, channel = {}) =>
  waitFor(signal, (resolve) => {
    const [date, time] = [Date.now(), performance.now()];
    let timer = setTimeout(resolve, ms);
    const hurry = () => {
      if (isHidden()) return;
      clearTimeout(timer);
      timer = setTimeout(resolve, floor - Math.max(Date.now() - date, performance.now() - time));
    };
    const forget = onPage((channel.hurry = hurry));
    return () => {
      clearTimeout(timer);
      forget();
      channel.hurry = undefined;
    };
  });

/** @type {T.Backoff} */
const backoff = (failures, floor) => {
  const spread = Math.max(BACKOFF_MS * 2 ** failures, floor / 10);
  return { ms: Math.min(TIMER_MAX_MS, floor + Math.random() * Math.min(BACKOFF_MAX_MS, spread)), floor };
};

// ---- one request

/** @type {T.MakeProblem} */
const problemOf = (status, code, title, detail) =>
  ({ type: 'about:blank', title, status, detail: String(detail), code, request_id: '' });

/** @type {(response: Response, type: RegExp) => boolean} */
const isOfType = ({ headers }, type) => type.test(headers.get('content-type') ?? '');

/** @type {T.Read} */
async function read(response) {
  const { status, ok, url, headers } = response;
  const text = await response.text();
  const body = text && isOfType(response, /^application\/([\w.-]+\+)?json\b/i) ? JSON.parse(text) : null;
  const after = headers.get('retry-after') ?? '';
  const ms = +after * 1_000 || Date.parse(after) - Date.now() || 0;
  const floor = Math.min(TIMER_MAX_MS, Math.max(0, ms));
  const isGood = status === 304 || (ok && body);
  const code = ok ? 'not_hotrow' : `http_${status}`;
  const problem = isGood ? null : body?.code ? body : problemOf(status, code, 'Not an answer of Hotrow', url);
  return { status, body, problem, floor };
}

/** @type {T.MakeCall} */
const caller = (base, token, giveWay) => async (signal, method, path, { headers, body, ms, reader = read } = {}) => {
  const line = scope(signal, ms ?? ANSWER_MS);
  const slow = ms ? 0 : setTimeout(giveWay, SLOW_MS);
  /** @type {RequestInit | undefined} */
  let init;
  try {
    const bearer = await Promise.race([typeof token === 'function' ? token() : token, waitFor(line.signal, () => {})]);
    const all = new Headers(headers);
    if (bearer) all.set('authorization', `Bearer ${bearer}`);
    if (body) all.set('content-type', 'application/json');
    init = { method, headers: all, body: JSON.stringify(body), signal: line.signal, cache: 'no-store' };
    return await reader(await fetch(base + path, init), line);
  } catch (error) {
    if (signal.aborted) throw signal.reason;
    if (!init && !line.signal.aborted) throw error;
    const problem = problemOf(0, 'connection_lost', 'Connection lost', error);
    return { status: 0, body: null, problem, floor: 0 };
  } finally {
    clearTimeout(slow);
    line.end();
  }
};

/** @type {T.Insist} */
async function* insist(signal, send, deadline = Infinity) {
  for (let failures = 0; ; failures++) {
    const answer = await send();
    const rest = backoff(failures, answer.floor);
    if (!REPEATED.includes(answer.status) || Date.now() + rest.ms > deadline) return answer;
    yield state('sending', null, answer.problem, fromNow(rest.ms));
    await pause(rest, signal);
  }
}

// ---- what is stored

/** `crypto.randomUUID` is missing without TLS. */
const newKey = () => crypto.getRandomValues(new Uint32Array(4)).join('-');

/** @type {(cart: T.Cart) => string} */
const nameOf = ({ items, customer_id = null }) =>
  JSON.stringify([customer_id, items.map((it) => [it.sku, it.quantity, it.unit_price_minor]).sort()]);

/** @type {(purchase: T.Purchase) => number} */
const ageOf = ({ at }) => Math.abs(Date.now() - at);

/** @type {T.MakeStored} */
function purchases(storage, name) {
  let memory = '[]';
  let isBroken = false;
  /** @type {Promise<unknown>} */
  let turn = Promise.resolve();

  const store = () => storage ?? localStorage;

  const load = () => {
    try {
      const text = isBroken ? memory : store().getItem(name);
      return text?.then?.(null, () => memory) ?? text;
    } catch {
      return memory;
    }
  };

  /** @type {(text: string) => T.Purchase[]} */
  const parse = (text) => {
    try {
      /** @type {T.Purchase[]} */
      const list = JSON.parse(text);
      return list.filter((it) => nameOf(it) && ageOf(it) < (it.order_id ? STORED_MS : KEY_MS));
    } catch {
      return [];
    }
  };

  /** @type {T.Update} */
  const update = (change) =>
    (turn = turn.then(async () => {
      const text = load();
      // No await between reading and writing, if none is needed: a reload right behind a click finds the purchase.
      const all = change(parse(text?.then ? await text : text));
      const list = [true, false].flatMap((is) => all.filter((it) => !it.is_void !== is).slice(-STORED_MAX));
      try {
        memory = JSON.stringify(list);
        await (list.length ? store().setItem(name, memory) : store().removeItem(name));
        isBroken = false;
      } catch {
        isBroken = true;
      }
    }));

  return {
    isVoid: async ({ key }) => parse(await load()).some((it) => it.key === key && it.is_void),
    list: async () => parse(await load()).filter((it) => !it.is_void && (it.order_id || ageOf(it) < RESUMED_MS)).reverse(),
    open: async ({ items, customer_id }) => {
      /** @type {T.Purchase} */
      let mine = { items, customer_id, key: newKey(), at: Date.now(), order_id: null, is_over: false, wait_until: 0, problem: null };
      const name = nameOf(mine);
      await update((list) => {
        const same = list.find((it) => nameOf(it) === name);
        if (same && !same.is_over) mine = same;
        return [...list.filter((it) => it !== same), mine];
      });
      return mine;
    },
    save: (mine) => update((list) => list.map((it) => (it.key === mine.key && !it.is_void ? mine : it))),
    void: (mine) => update((list) => list.map((it) => (it.key === mine.key ? { ...mine, items: [], customer_id: undefined, order_id: null, problem: null, is_void: true } : it))),
    close: (mine) => update((list) => list.filter((it) => mine && it.key !== mine.key)),
  };
}

// ---- what is watched

/** @type {T.EventParser} */
const eventParser = (on) => {
  let [rest, event, data] = ['', '', ''];
  return (text) => {
    const lines = (rest + text).split(/\r\n|\n|\r(?!$)/);
    rest = lines.pop() ?? '';
    if (rest.length > 2 ** 20) throw new Error('too long');
    for (const line of lines) {
      const [, field, value] = /^([^:]*):? ?(.*)$/s.exec(line) ?? [];
      if (field === 'event') event = value;
      if (field === 'data') data += value + '\n';
      if (field === 'retry') on(field, value);
      if (line) continue;
      if (data) on(event, data);
      event = data = '';
    }
  };
};

/** @type {T.Change} */
const NOTHING = { stock: null, order: null, problem: null, retry_at: null };

/** @type {T.MakeWatching} */
function watching(call) {
  /** @type {Set<T.Watcher>} */
  const watchers = new Set();
  /** @type {Map<string, any>} */
  const seen = new Map();
  /** @type {Set<T.Channel>} */
  const shared = new Set();
  let strikes = 0;
  let distrustedUntil = 0;

  /** @type {T.WatchersOf} */
  const watchersOf = (channel) => [...watchers].filter((it) => it.channel === channel);

  /** @type {T.Wishes} */
  const wishes = (all) => {
    const things = [...new Set(all.flatMap((it) => it.things))];
    const [[orders, asked], [skus, more]] = ['orders=', 'skus='].map((kind) => {
      const ids = things.filter((it) => it.startsWith(kind)).map((it) => it.slice(kind.length));
      return [ids, ids.length ? [kind + ids.map(encodeURIComponent)] : []];
    });
    const most = Math.max(orders.length, skus.length);
    return { things, orders, skus, most, query: [...asked, ...more].join('&') };
  };

  /** @type {T.Tell} */
  const tell = (watcher, thing) => {
    const { as_of, ...doc } = seen.get(thing);
    const text = JSON.stringify(doc);
    if (watcher.told.get(thing) === text) return;
    watcher.told.set(thing, text);
    watcher.inbox.delete('problem');
    const kind = doc.order_id ? 'order' : 'stock';
    watcher.inbox.set(thing, { ...NOTHING, [kind]: doc });
    watcher.ring();
  };

  /** @type {T.Show} */
  const show = (doc) => {
    const thing = doc.order_id ? 'orders=' + doc.order_id : 'skus=' + doc.sku;
    const old = seen.get(thing) ?? {};
    // Versions may begin lower after a fail-over, so times count. A stream has none.
    const isOlder = doc.as_of && old.as_of ? doc.as_of < old.as_of : doc.version < old.version;
    const newest = isOlder || (doc.revision ?? 0) < (old.revision ?? 0) ? old : doc;
    seen.delete(thing);
    seen.set(thing, newest);
    if (seen.size > SEEN_MAX) seen.delete([...seen.keys()][0]);
    for (const watcher of watchers) if (watcher.things.includes(thing)) tell(watcher, thing);
    return newest;
  };

  /** @type {T.Complain} */
  const complain = (channel, { problem, floor }) => {
    const rest = backoff(channel.failures++, floor);
    for (const watcher of watchersOf(channel)) {
      // What is heard next is told, new or not: the problem is over.
      watcher.told.clear();
      watcher.inbox.set('problem', { ...NOTHING, problem, retry_at: fromNow(rest.ms) });
      watcher.ring();
    }
    return rest;
  };

  /** @type {T.OpenChannel} */
  const open = (go) => {
    const life = scope();
    /** @type {T.Channel} */
    const channel = { life, turn: scope(), things: [], failures: 0 };
    go(channel, life.signal).catch((error) => life.signal.aborted || fail(channel, error));
    return channel;
  };

  /** @type {T.Join} */
  const join = (watcher) => {
    const channel = [...shared].find((it) => wishes([watcher, ...watchersOf(it)]).most <= THINGS_MAX) ?? open(run);
    shared.add(channel);
    watcher.channel = channel;
    watchers.add(watcher);
    if (watcher.things.every((it) => channel.things.includes(it))) {
      for (const thing of watcher.things) if (seen.has(thing)) tell(watcher, thing);
    } else {
      channel.turn.end();
      channel.hurry?.();
    }
  };

  /** @type {T.Leave} */
  const leave = (watcher) => {
    const { channel } = watcher;
    watchers.delete(watcher);
    if (watchersOf(channel).length) return;
    if (!channel) return;
    channel.life.end();
    shared.delete(channel);
  };

  /** @type {T.Fail} */
  const fail = (channel, error) => {
    const all = watchersOf(channel);
    all.forEach(leave);
    if (all.length === 1) {
      all[0].error = error;
      all[0].ring();
      return;
    }
    // Each watcher asks for its own, and joins the others again.
    for (const watcher of all) {
      watchers.add(watcher);
      watcher.channel = open(async (channel, signal) => {
        await pause(await poll(channel, signal, wishes([watcher]), 0), signal);
        leave(watcher);
        join(watcher);
      });
    }
  };

  /** @type {T.Run} */
  const run = async (channel, signal) => {
    for (;;) {
      await shown(signal);
      const turn = (channel.turn = scope(signal));
      const forget = onPage(() => isHidden() && turn.end());
      let rest = { ms: 0, floor: 0 };
      try {
        const all = wishes(watchersOf(channel));
        channel.things = all.things;
        rest = await (performance.now() < distrustedUntil ? poll : listen)(channel, turn.signal, all);
      } catch (error) {
        if (!turn.signal.aborted) throw error;
      } finally {
        forget();
        turn.end();
      }
      if (rest.ms) await pause(rest, signal, channel);
    }
  };

  /** @type {T.Listen} */
  const listen = async (channel, signal, all) => {
    const asked = performance.now();
    let began = 0;
    let retry = 1_000;
    const parse = eventParser((name, value) => {
      channel.failures = 0;
      if (name === 'retry') retry = Math.min(BACKOFF_MAX_MS, +value || 0);
      if (name === 'stock' || name === 'order') show(JSON.parse(value));
    });
    /** @type {T.Read} */
    const reader = async (response, line) => {
      if (!isOfType(response, /^text\/event-stream\b/i) || !response.body) return read(response, line);
      const pieces = response.body.getReader();
      const decoder = new TextDecoder();
      for (;;) {
        const { done, value } = await pieces.read();
        if (done) throw new Error('the stream is over');
        began ||= performance.now();
        line.extend(SILENCE_MS);
        parse(decoder.decode(value, { stream: true }));
      }
    };
    const options = { headers: { accept: 'text/event-stream' }, ms: FIRST_BYTE_MS, reader };
    const answer = await call(signal, 'GET', '/v1/live?' + all.query, options);
    const lived = began && performance.now() - began;
    const isOffline = !began && !answer.status && performance.now() - asked < FIRST_BYTE_MS / 2;
    strikes = lived < YOUNG_MS ? strikes + (began || isOffline ? 1 : 2) : 0;
    const distrust = DISTRUST_MS * Math.min(2 ** strikes, 128) * (1 + Math.random());
    if (strikes > 1) distrustedUntil = performance.now() + answer.floor + distrust;
    if (isOffline || answer.status === 429) return complain(channel, answer);
    if (!began) return poll(channel, signal, all);
    return { ms: retry * (1 + Math.random()), floor: 0 };
  };

  /** @type {T.Poll} */
  const poll = async (channel, signal, { orders, skus }, seconds = skus.length ? 2 : WAIT_S) => {
    const began = performance.now();
    const [id] = orders;
    const known = seen.get('orders=' + id);
    const wait = known ? `?wait=${seconds}&after_revision=${known.revision ?? 0}` : '';
    const paths = skus.map(stockPath);
    if (orders.length > 1) paths.push('/v1/orders?ids=' + orders.map(encodeURIComponent));
    else if (id) paths.push(orderPath(id) + wait);
    for (const path of paths) {
      const answer = await call(signal, 'GET', path, { ms: WAIT_S * 1_000 + ANSWER_MS });
      if (!answer.status) strikes = distrustedUntil = 0;
      if (REPEATED.includes(answer.status)) return complain(channel, answer);
      if (answer.problem) {
        strikes = distrustedUntil = 0;
        throw new HotrowError(answer.problem);
      }
      channel.failures = 0;
      for (const doc of answer.body?.orders ?? [answer.body ?? known]) show(doc);
    }
    const isNews = known && known.revision !== seen.get('orders=' + id).revision;
    const ms = began + POLL_MS * (0.5 + Math.random()) - performance.now();
    return { ms: isNews ? 0 : Math.max(0, ms), floor: 0 };
  };

  return {
    show,
    giveWay: () => shared.forEach((it) => it.turn.end()),
    async *watch(things, signal) {
      /** @type {T.Watcher} */
      const watcher = { things, told: new Map(), inbox: new Map(), ring() {} };
      join(watcher);
      try {
        for (;;) {
          await waitFor(signal, (resolve) => {
            watcher.ring = resolve;
            if (watcher.inbox.size || watcher.error) resolve();
          });
          if (watcher.error) throw watcher.error;
          const [[thing, change]] = watcher.inbox;
          watcher.inbox.delete(thing);
          yield change;
        }
      } finally {
        leave(watcher);
      }
    },
  };
}

// ---- the shop

/** Opens a shop.
 * @type {T.Hotrow} */
export function hotrow({ url, token, storage, onState }) {
  const base = new URL(url, globalThis.location?.href).href.replace(/\/+$/, '');
  const call = caller(base, token, () => giveWay());
  const stored = purchases(storage, `hotrow ${base}`);
  const { show, watch, giveWay } = watching(call);

  /** @type {T.Ask} */
  const ask = async (method, path, { signal, ...asked }) => {
    const life = scope(signal);
    const deadline = Date.now() + PATIENCE_MS;
    const tries = insist(life.signal, () => call(life.signal, method, path, asked), deadline);
    try {
      for (;;) {
        const { done, value } = await tries.next();
        if (done) return value;
      }
    } finally {
      life.end();
    }
  };

  /** @type {T.BodyOf} */
  const bodyOf = (answer) => {
    if (answer.problem) throw new HotrowError(answer.problem, retryAt(answer));
    return answer.body;
  };

  /** @type {T.LookUp} */
  async function* lookUp(mine, isResumed, signal) {
    if (!mine.order_id) return null;
    const path = orderPath(mine.order_id);
    const answer = yield* insist(signal, async () => {
      await shown(signal);
      return call(signal, 'GET', path);
    });
    const isGone = answer.status === 404;
    const order = isGone ? null : show(bodyOf(answer));
    // An order that came to nothing stops nobody.
    const isVain = isGone || (order.status !== 'confirmed' && FINAL.includes(order.status));
    if (isGone || (isVain && !isResumed)) await stored.close(mine);
    if (isResumed) bodyOf(answer);
    else if (isVain) Object.assign(mine, await stored.open(mine));
    return isResumed || !isVain ? order : null;
  }

  /** @type {T.Place} */
  async function* place(mine, signal) {
    const { key, items, customer_id, wait_until } = mine;
    const options = { headers: { 'idempotency-key': key }, body: { items, customer_id } };
    if (wait_until > Date.now()) {
      const rest = backoff(0, wait_until - Date.now());
      yield state('sending', null, mine.problem, fromNow(rest.ms));
      await pause(rest, signal);
    }
    let unsureUntil = 0;
    const answer = yield* insist(signal, async () => {
      if (ageOf(mine) > KEY_MS || (await stored.isVoid(mine))) {
        throw new HotrowError(problemOf(0, 'gave_up', 'Given up', 'too old, or elsewhere'));
      }
      const it = await call(signal, 'POST', '/v1/orders', options);
      const { status, floor, problem } = it;
      // A door that is shut does not see what is queued.
      if (status === 409 && Date.now() < unsureUntil) it.status = 0;
      if (LOST.includes(status) || problem?.code === 'outcome_unknown') unsureUntil = Date.now() + PATIENCE_MS;
      Object.assign(mine, { wait_until: Date.now() + floor, problem });
      if (floor) await stored.save(mine);
      return it;
    });
    const { status, problem } = answer;
    // What is not sold is 409, also for reasons that are not known here.
    const isNotSold = status === 409 || problem?.code === 'unknown_sku';
    if (isNotSold || FAULTY.includes(status)) await stored.void(mine);
    if (isNotSold) {
      yield state('rejected', null, problem, retryAt(answer));
      return null;
    }
    const order = show(bodyOf(answer));
    mine.order_id = order.order_id;
    await stored.save(mine);
    return order;
  }

  /** @type {T.Steps} */
  async function* steps(mine, isResumed, signal) {
    yield state('sending');
    let order = (yield* lookUp(mine, isResumed, signal)) ?? (yield* place(mine, signal));
    if (!order) return;
    if (!FINAL.includes(order.status)) {
      yield state(order.status, order);
      for await (const it of watch(['orders=' + order.order_id], signal)) {
        order = it.order ?? order;
        if (FINAL.includes(order.status)) break;
        yield state(order.status, order, it.problem, it.retry_at);
      }
    }
    // Stored until it was shown: a reload shows it again.
    mine.is_over = true;
    await stored.save(mine);
    yield state(order.status, order);
  }

  /** @type {T.Follow} */
  async function* follow(find, isResumed, signal) {
    const mine = await find();
    if (!mine) return;
    try {
      for await (const it of steps(mine, isResumed, signal)) {
        onState?.(it, mine);
        yield it;
      }
    } finally {
      if (mine.is_over) await stored.close(mine);
    }
  }

  /** @type {T.Until} */
  async function* until(signal, begin) {
    const life = scope(signal);
    try {
      if (!life.signal.aborted) yield* begin(life.signal);
    } catch (error) {
      if (!signal?.aborted) throw error;
    } finally {
      life.end();
    }
  }

  return {
    buy: (cart, { signal } = {}) => until(signal, (end) => follow(() => stored.open(cart), false, end)),
    resume: (purchase, { signal } = {}) =>
      until(signal, (end) => follow(async () => purchase ?? (await stored.list())[0], true, end)),
    pending: stored.list,
    forget: (purchase) => (purchase ? stored.void(purchase) : stored.close()),
    async cancel(order_id, { signal, reason, restock } = {}) {
      const asked = { signal, body: { reason, restock }, ms: ANSWER_MS };
      const answer = await ask('POST', orderPath(order_id) + '/cancel?wait=10', asked);
      const { status, problem, body } = answer;
      const isQueued = problem?.code === 'not_settled';
      const order = show(isQueued ? { order_id, status: 'queued' } : (body?.order ?? bodyOf(answer)));
      const later = status === 202 ? problemOf(status, 'not_settled', 'Not settled yet', order_id) : problem;
      return state(order.status, order, later, retryAt(answer));
    },
    order: async (order_id, options = {}) => show(bodyOf(await ask('GET', orderPath(order_id), options))),
    stock: async (sku, options = {}) => bodyOf(await ask('GET', stockPath(sku), options)),
    live({ skus = [], orders = [] }, { signal } = {}) {
      const most = Math.max(skus.length, orders.length);
      if (!most || most > THINGS_MAX) throw new RangeError(`watch 1 to ${THINGS_MAX} skus or orders`);
      const things = [...skus.map((it) => 'skus=' + it), ...orders.map((it) => 'orders=' + it)];
      return until(signal, (end) => watch(things, end));
    },
  };
}
