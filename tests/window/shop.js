/** The first panel: a product, and the one order that a visitor has under way. */
import { html, useEffect, useRef, useState } from './vendor/htm-preact-3.1.1.js';
import { why } from './hotrow.js';
import { ask } from './server.js';
import { aboutObstacle, aboutOrder, aboutProduct, aboutRejected, money, number } from './words.js';

const NONE = { status: 'none', order: null, problem: null, retry_at: null };
/** An order that is none of these may still change. */
const OVER = ['none', 'confirmed', 'expired', 'cancelled', 'rejected', 'failed', 'defect'];
/** Nothing was taken by an attempt that ended with one of these. */
const NOT_TAKEN = ['paused', 'overloaded', 'unavailable', 'rate_limited'];
/** Milliseconds before the next attempt in which it is too late to give up: it may be under way. */
const TOO_LATE = 500;
/** Milliseconds until the stock is listened to again, at least and at most. */
const LISTEN_AGAIN = [1_000, 30_000];
const STEPS = [['sending', 'Sent'], ['queued', 'Queued'], ['reserved', 'Held'], ['confirmed', 'Yours']];

export function Shop({ client, sku, onServer }) {
  const { product, stock, live } = useProduct(client, sku);
  const purchase = usePurchase(client);
  const isBusy = !OVER.includes(purchase.state.status);
  return html`
    <section class="panel shop" aria-labelledby="shop-title">
      <h2 id="shop-title">The shop</h2>
      <${Product} product=${product} stock=${stock} live=${live} isBusy=${isBusy} onBuy=${purchase.buy} />
      <${Order} purchase=${purchase} product=${product} client=${client} onServer=${onServer} />
      <${Operator} onServer=${onServer} />
    </section>`;
}

/** The product and its stock. The stream tells of the stock, and the rest is looked up when the state changes. */
function useProduct(client, sku) {
  const [product, setProduct] = useState(null);
  const [stock, setStock] = useState(null);
  const [live, setLive] = useState({ problem: null, retry_at: null });

  useEffect(() => {
    const { signal, abort } = stopper();
    let pause = LISTEN_AGAIN[0];
    let timer;
    const listen = async () => {
      try {
        for await (const { stock, problem, retry_at } of client.live({ skus: [sku] }, { signal })) {
          setLive({ problem, retry_at });
          if (!stock) continue;
          setStock(stock);
          pause = LISTEN_AGAIN[0];
        }
      } catch (error) {
        // A defect ends the loop, and may be over later.
        const wait = pause * (0.5 + Math.random());
        setLive({ problem: problemOf(error), retry_at: new Date(Date.now() + wait).toISOString() });
        timer = setTimeout(listen, wait);
        pause = Math.min(LISTEN_AGAIN[1], pause * 2);
      }
    };
    listen();
    return () => {
      clearTimeout(timer);
      abort();
    };
  }, [client, sku]);

  useEffect(() => {
    const { signal, abort } = stopper();
    client.stock(sku, { signal }).then(setProduct, () => {});
    return abort;
  }, [client, sku, stock?.state]);

  const look = () => client.stock(sku).then(setProduct, () => {});
  return { product: product && { ...product, look }, stock: stock ?? product, live };
}

/** The visitor's order: one at a time, and the one of before a reload. */
function usePurchase(client) {
  const [state, setState] = useState(NONE);
  const running = useRef(null);
  /** What was asked for; unknown after a reload. */
  const item = useRef(null);
  /** Whether an attempt may have been taken, so that the order can no longer be given up. */
  const isUnsure = useRef(true);

  const follow = async (states, controller) => {
    running.current = controller;
    let isEmpty = true;
    try {
      for await (const it of states) {
        isEmpty = false;
        isUnsure.current ||= Boolean(it.problem) && !NOT_TAKEN.includes(it.problem.code);
        setState(it);
      }
      if (isEmpty && !controller.signal.aborted) setState(NONE);
    } catch (error) {
      setState({ ...NONE, status: 'defect', problem: problemOf(error), retry_at: error.retry_at ?? null });
    }
  };
  const begin = (start) => {
    running.current?.abort();
    const controller = new AbortController();
    follow(start({ signal: controller.signal }), controller);
  };
  useEffect(() => {
    begin((options) => client.resume(null, options));
    return () => running.current?.abort();
  }, [client]);

  return {
    state,
    item: item.current,
    canGiveUp: state.status === 'sending' && Boolean(state.problem) && !isUnsure.current,
    buy: (wanted) => {
      item.current = wanted;
      isUnsure.current = false;
      begin((options) => client.buy({ items: [wanted] }, options));
    },
    resume: () => begin((options) => client.resume(null, options)),
    giveUp: async () => {
      running.current?.abort();
      const cart = JSON.stringify([item.current]);
      const mine = (await client.pending()).find((it) => !it.order_id && JSON.stringify(it.items) === cart);
      if (mine) await client.forget(mine);
      setState(NONE);
    },
    done: () => setState(NONE),
  };
}

function Product({ product, stock, live, isBusy, onBuy }) {
  const [quantity, setQuantity] = useState(1);
  const state = stock?.state ?? 'loading';
  const { sign, text } = product ? aboutProduct(state) : { sign: 'Loading', text: '' };
  const sale = product?.sale;
  const limit = Math.min(sale?.max_per_customer ?? 4, 9);
  const buy = (event) => {
    event.preventDefault();
    if (product && !isBusy) onBuy({ sku: product.sku, quantity, unit_price_minor: product.unit_price_minor });
  };
  return html`
    <article class="product" data-testid="product" data-state=${state}>
      <${Lamp} isOn=${state === 'open'} />
      <div class="facts">
        <h3>${product?.title ?? 'A product'}</h3>
        <p class="price" data-testid="price">${money(product?.unit_price_minor, product?.currency)}</p>
        <p class="sign" role="status" data-state=${state}>${sign}</p>
        <div class="stock">
          <span><b data-testid="available" data-value=${stock?.available}>${stock ? number(stock.available) : '–'}</b> free</span>
          <span><b data-testid="held" data-value=${stock?.held}>${stock ? number(stock.held) : '–'}</b> held for buyers</span>
        </div>
        <${Live} live=${live} />
        ${text && html`<p class="hint">${text}</p>`}
        ${state === 'not_open' && sale?.opens_at &&
          html`<p class="hint">It opens in <${Countdown} to=${sale.opens_at} id="opens" onOver=${product.look} />.</p>`}
        <form class="buy" onSubmit=${buy}>
          <label>Pieces
            <select data-testid="quantity" value=${quantity} onChange=${(event) => setQuantity(+event.target.value)}>
              ${Array.from({ length: limit + 1 }, (_, i) => html`<option value=${i + 1}>${i + 1}</option>`)}
            </select>
          </label>
          <button class="main" data-testid="buy" aria-disabled=${String(isBusy || !product)} data-quiet=${state !== 'open'}>
            ${state === 'open' || !product ? 'Buy' : 'Try anyway'}
          </button>
        </form>
        ${sale?.max_per_customer && html`<p class="small">At most ${sale.max_per_customer} for each customer. The shop refuses more.</p>`}
      </div>
    </article>`;
}

function Live({ live: { problem, retry_at } }) {
  return html`
    <p class="live" role="status" data-testid="live" data-state=${problem ? 'interrupted' : 'live'}>
      ${problem
        ? html`<span>${aboutObstacle(problem)} The stock may be an old one.</span> ${retry_at && html`<${Again} at=${retry_at} />`}`
        : 'Live'}
    </p>`;
}

function Order({ purchase, product, client, onServer }) {
  const { state } = purchase;
  const { status, order, problem, retry_at } = state;
  const [said, setSaid] = useState('');
  const [isPaying, setPaying] = useState(false);
  /** The order whose payment came too late. */
  const [unmatched, setUnmatched] = useState(null);
  useEffect(() => setSaid(''), [status, order?.order_id]);
  const { title: heading, actions } = useFocusThatStays();
  const reason = why(state);
  // The price of a refusal is news to the page, too.
  useEffect(() => void (reason === 'price_changed' && product?.look()), [reason, state]);

  const { title, text } = describe(state, reason, product, purchase.item);
  const pay = async () => {
    setPaying(true);
    const answer = await ask('POST', '/demo/pay', {
      order_id: order.order_id, amount_minor: order.total_minor, currency: order.currency,
    });
    setPaying(false);
    onServer(answer.status !== 0);
    if (answer.body?.unmatched) setUnmatched(order.order_id);
    else if (!answer.ok) setSaid(`The payment did not go through: ${answer.body?.detail ?? 'nobody answers'}. Pay again: it is taken once.`);
  };
  const cancel = async () => {
    try {
      setSaid('The shop is cancelling it…');
      // What becomes of the order comes to this page by itself.
      const { problem, status } = await client.cancel(order.order_id);
      if (!problem) setSaid('');
      else if (problem.code !== 'not_settled') setSaid('It can no longer be cancelled.');
      else if (status === 'queued') setSaid('It is still queued: cancel it in a moment.');
    } catch (error) {
      setSaid(`It is not cancelled: ${error.problem?.detail ?? error.message}. Try again.`);
    }
  };
  const quantity = purchase.item?.quantity ?? 1;
  const again = () => purchase.buy({ sku: product.sku, quantity, unit_price_minor: product.unit_price_minor });
  const tone = status === 'rejected' || status === 'failed' || status === 'defect' ? 'bad' : status === 'confirmed' ? 'good' : 'plain';
  return html`
    <section class="order" aria-labelledby="order-title" data-testid="order" data-state=${status} data-why=${reason}
      data-problem=${status === 'rejected' ? null : problem?.code} data-order=${order?.order_id} data-tone=${tone}>
      <h3 id="order-title" class="for-readers">Your order</h3>
      <${Steps} status=${status} />
      <div role="status" aria-live="polite">
        <p class="title" data-testid="order-title" ref=${heading} tabindex="-1">${title}</p>
        <p data-testid="order-text">${text}</p>
        ${said && html`<p class="said" data-testid="order-said">${said}</p>`}
        ${unmatched && unmatched === order?.order_id &&
          html`<p class="said" data-testid="unmatched">The payment came too late. The shop has it on a list, and gives it back.</p>`}
        ${problem && !OVER.includes(status) &&
          html`<p class="said" data-testid="obstacle">${aboutObstacle(problem)} ${status === 'sending' ? 'It is sent again by itself.' : 'The order is safe; the page asks again.'}</p>`}
      </div>
      ${problem && !OVER.includes(status) && retry_at && html`<${Again} at=${retry_at} />`}
      ${status === 'reserved' && order?.expires_at && html`<${Hold} order=${order} />`}
      ${reason === 'not_open' && problem?.opens_at &&
        html`<p class="clock">Opens in <${Countdown} to=${problem.opens_at} id="opens-order" /></p>`}
      ${reason === 'all_held' && retry_at && html`<${Again} at=${retry_at} words="Worth another try" />`}
      <div class="actions" ref=${actions}>
        ${status === 'reserved' && html`
          <button class="main" type="button" data-testid="pay" aria-disabled=${String(isPaying)} onClick=${() => isPaying || pay()}>
            ${isPaying ? 'Paying…' : `Pay ${money(order.total_minor, order.currency)}`}</button>
          <button type="button" data-testid="cancel" onClick=${cancel}>Cancel the order</button>`}
        ${purchase.canGiveUp && html`<${GiveUp} before=${retry_at} onClick=${purchase.giveUp} />`}
        ${reason === 'price_changed' && product &&
          html`<button class="main" type="button" data-testid="again" onClick=${again}>Buy ${quantity} at ${money(product.unit_price_minor, product.currency)}</button>`}
        ${status === 'defect' && html`<button type="button" data-testid="again" onClick=${purchase.resume}>Ask again</button>`}
        ${OVER.includes(status) && status !== 'none' &&
          html`<button type="button" data-testid="done" onClick=${purchase.done}>Done</button>`}
      </div>
      ${order?.order_id && html`<p class="small">Order <code>${order.order_id}</code>${order.items && `, ${order.items.map((it) => it.quantity).join(' + ')} for ${money(order.total_minor, order.currency)}`}</p>`}
    </section>`;
}

/** Where a button of the actions had the focus and is gone, the title has it: not the beginning of the page. */
function useFocusThatStays() {
  const title = useRef(null);
  const actions = useRef(null);
  useEffect(() => {
    let button = null;
    const note = ({ target }) => (button = actions.current.contains(target) ? target : null);
    document.addEventListener('focusin', note);
    const observer = new MutationObserver(() => {
      const isLost = document.activeElement === document.body && button && !button.isConnected;
      if (isLost) title.current.focus({ preventScroll: true });
    });
    observer.observe(actions.current, { childList: true });
    return () => {
      document.removeEventListener('focusin', note);
      observer.disconnect();
    };
  }, []);
  return { title, actions };
}

function describe({ status, order, problem }, reason, product, item) {
  if (status === 'none') return { title: 'No order yet', text: 'Press Buy, and follow its way here.' };
  if (status === 'defect') return { title: 'Something is wrong', text: problem?.detail || problem?.title || 'The page met an error.' };
  if (status === 'cancelled' && reason !== 'by_customer') return { title: 'Cancelled by the shop', text: 'Nothing is to be paid.' };
  if (status !== 'rejected') return aboutOrder(status);
  return aboutRejected(reason, {
    limit: problem?.limit ?? product?.sale?.max_per_customer,
    now: money(problem?.unit_price_minor ?? product?.unit_price_minor, product?.currency),
    seen: money(item?.unit_price_minor, product?.currency) || 'another one',
    detail: problem?.detail,
    order,
  });
}

/** Gives an order up that waits for its next attempt. */
function GiveUp({ before, onClick }) {
  const isInTime = Date.parse(before) - useNow() > TOO_LATE;
  return isInTime && html`<button type="button" data-testid="give-up" onClick=${onClick}>Give up</button>`;
}

function Steps({ status }) {
  const ended = { expired: 'Expired', cancelled: 'Cancelled', rejected: 'Refused', failed: 'Failed' }[status];
  const at = STEPS.findIndex(([name]) => name === status);
  const current = ended ? STEPS.length - 1 : at;
  return html`
    <ol class="steps" aria-label="The way of the order">
      ${STEPS.map(([name, word], i) => html`
        <li key=${name} data-step=${current < 0 ? 'ahead' : i < current ? (ended ? 'skipped' : 'past') : i > current ? 'ahead' : ended ? 'ended' : 'here'}
          aria-current=${i === current ? 'step' : null}>${i === STEPS.length - 1 && ended ? ended : word}</li>`)}
    </ol>`;
}

/** How long the goods are held, as a time and as a bar. */
function Hold({ order }) {
  const now = useNow();
  const [from, to] = [Date.parse(order.settled_at), Date.parse(order.expires_at)];
  const share = Math.max(0, Math.min(1, (to - now) / (to - from)));
  return html`
    <div class="hold" data-urgent=${to - now < 15_000}>
      <p class="clock"><${Countdown} to=${order.expires_at} id="countdown" /> left to pay${to - now < 15_000 && ': hurry'}</p>
      <p class="for-readers" role="status">${to - now < 15_000 ? '15 seconds left to pay' : to - now < 60_000 && 'One minute left to pay'}</p>
      <div class="bar" aria-hidden="true"><div style=${{ width: `${share * 100}%` }}></div></div>
    </div>`;
}

/** Minutes and seconds until a time. Nobody is told of every second. */
function Countdown({ to, id, onOver }) {
  const now = useNow();
  const seconds = Math.max(0, Math.ceil((Date.parse(to) - now) / 1000));
  useEffect(() => void (seconds === 0 && onOver?.()), [seconds === 0]);
  const text = `${Math.floor(seconds / 60)}:${String(seconds % 60).padStart(2, '0')}`;
  return html`<span class="digits" role="timer" aria-live="off" data-testid=${id} data-value=${seconds}>${text}</span>`;
}

function Again({ at, words = 'Next try' }) {
  const seconds = Math.max(0, Math.ceil((Date.parse(at) - useNow()) / 1000));
  return html`<p class="small" aria-live="off">${words} ${seconds ? html`in <span class="digits">${seconds} s</span>` : 'now'}</p>`;
}

function useNow() {
  const [now, setNow] = useState(Date.now());
  useEffect(() => {
    const timer = setInterval(() => setNow(Date.now()), 250);
    return () => clearInterval(timer);
  }, []);
  return now;
}

const ACTIONS = [
  ['restock', 'Restock 10'],
  ['empty', 'Empty'],
  ['hold_all', 'Others hold all'],
  ['raise_price', 'Raise the price'],
  ['open_soon', 'Open in 10 s'],
  ['open', 'Open now'],
  ['pause', 'Pause'],
  ['close', 'Close'],
  ['stop_all', 'Stop all sales'],
  ['go_on', 'Let sales go on'],
];

function Operator({ onServer }) {
  const [said, setSaid] = useState('');
  const act = async (action, word) => {
    const { ok, status, body } = await ask('POST', '/demo/operator', { action });
    onServer(status !== 0);
    setSaid(ok ? `${word}: done.` : `${word}: ${body?.detail ?? 'nobody answers'}.`);
  };
  return html`
    <details class="operator" open>
      <summary>For the operator <span class="small">(demo only)</span></summary>
      <div class="actions">
        ${ACTIONS.map(([action, word]) => html`
          <button key=${action} type="button" data-testid=${`operator-${action}`} onClick=${() => act(action, word)}>${word}</button>`)}
      </div>
      <p class="small" role="status" data-testid="operator-said">${said}</p>
    </details>`;
}

function Lamp({ isOn }) {
  return html`
    <svg class="lamp" data-on=${isOn} viewBox="0 0 160 200" aria-hidden="true">
      <path class="light" d="M84 74 152 176H44z" />
      <path class="metal" d="M36 184h64v8H36zM64 184V104l40-44 6 6-38 42v76z" />
      <circle class="metal" cx="68" cy="106" r="7" />
      <path class="shade" d="M82 42 118 22 142 62 88 84z" />
    </svg>`;
}

function stopper() {
  const controller = new AbortController();
  return { signal: controller.signal, abort: () => controller.abort() };
}

/** What was thrown, as a problem. */
const problemOf = (error) => error.problem ?? { code: 'defect', title: 'Error', detail: error.message };
