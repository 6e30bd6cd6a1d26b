/**
 * The shop window: both panels, and what they share.
 *
 * What a test of the page can rely on. Each is an attribute of one element that is always there once the page is:
 *
 *   [data-testid=page]           data-state   starting | open | gone (the window's own server does not answer)
 *   [data-testid=visitor]                     who one is, and [data-testid=new-visitor], a button to be somebody else
 *   [data-testid=product]        data-state   loading, or the product's state as Hotrow has it: open, not_open, closed,
 *                                             paused, sold_out, all_held, or a word that is new
 *   [data-testid=available]      data-value   pieces that are free; [data-testid=held] pieces that are held
 *   [data-testid=price]                       the price as the buyer sees it
 *   [data-testid=live]           data-state   live | interrupted: whether stock is as of now
 *   [data-testid=quantity]                    a select; [data-testid=buy] the button, aria-disabled while an order is open
 *   [data-testid=order]          data-state   none, sending, queued, reserved, confirmed, expired, cancelled, rejected,
 *                                             failed, defect, or a status that is new
 *                                data-why     why it was rejected, expired or cancelled: sold_out, all_held,
 *                                             limit_reached, paused, not_open, closed, price_changed, not_paid, …
 *                                data-problem what is in the way meanwhile: connection_lost, overloaded, paused, …
 *                                data-order   the order's id, once there is one
 *   [data-testid=order-title], [data-testid=order-text], [data-testid=obstacle], [data-testid=countdown],
 *   [data-testid=pay], [data-testid=cancel], [data-testid=give-up], [data-testid=again], [data-testid=done]
 *   [data-testid=operator-<action>]           the operator's buttons, see shop.js; [data-testid=operator-said] what came of it
 *   [data-testid=stampede]       data-state   none | running | over | failed
 *                                data-right   true | false, once it is over
 *   [data-testid=buyers], [data-testid=begin], [data-testid=points] (the table of all points),
 *   [data-testid=compared] (rows with data-name, data-counted and data-database), [data-testid=sold], [data-testid=left]
 */
import { html, render, useEffect, useState } from './vendor/htm-preact-3.1.1.js';
import { hotrow } from './hotrow.js';
import { ask, admission } from './server.js';
import { Shop } from './shop.js';
import { Stampede } from './stampede.js';

const RETRY_MS = 1000;

/** Waits until Hotrow runs behind the window. Returns where it is, and whether one had to wait. */
async function begin(onWait) {
  for (let waited = false; ; waited = true) {
    const { body } = await ask('GET', '/demo/shop');
    if (body?.api) return { ...body, waited };
    onWait();
    await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
  }
}

function Page() {
  const [shop, setShop] = useState(null);
  const [isStarting, setStarting] = useState(false);
  const [isGone, setGone] = useState(false);
  const [visitor, setVisitor] = useState('');

  useEffect(async () => {
    const found = await begin(() => setStarting(true));
    // The policy of a page that came too early does not let it talk to Hotrow yet.
    if (found.waited) return location.reload();
    const { token } = admission(setVisitor);
    // Who one is does not wait for the first purchase.
    token();
    setShop({ ...found, client: hotrow({ url: found.api, token }) });
  }, []);

  const state = !shop ? 'starting' : isGone ? 'gone' : 'open';
  return html`
    <div class="page" data-testid="page" data-state=${state}>
      <header class="top">
        <img src="/icon.svg" alt="" width="40" height="40" />
        <div>
          <h1>Hotrow</h1>
          <p>The shop window: buy something, and watch a stampede for it.</p>
        </div>
        ${visitor && html`<${Visitor} name=${visitor} client=${shop?.client} />`}
      </header>
      ${isGone && html`
        <p class="banner" role="alert">The shop window itself does not answer. Start <code>cargo demo -- --stay</code> again, and open the address that it prints.</p>`}
      ${shop
        ? html`
          <main class="panels">
            <${Shop} client=${shop.client} sku=${shop.sku} onServer=${(isThere) => setGone(!isThere)} />
            <${Stampede} min=${shop.buyers_min} max=${shop.buyers_max} onServer=${(isThere) => setGone(!isThere)} />
          </main>`
        : html`
          <main class="starting">
            <p role="status">${isStarting ? 'PostgreSQL, RabbitMQ and Hotrow are starting. The shop opens by itself.' : 'The shop opens.'}</p>
          </main>`}
      <footer><p>A demo on your machine alone. Nothing here costs anything, and nothing is delivered.</p></footer>
    </div>`;
}

function Visitor({ name, client }) {
  const renew = async () => {
    await client?.forget();
    admission.forget();
    location.reload();
  };
  return html`
    <div class="visitor">
      <span>You are <b data-testid="visitor" data-value=${name} title=${name}>${name.slice(0, 16)}</b></span>
      <button class="quiet" type="button" data-testid="new-visitor" onClick=${renew}>Be somebody else</button>
    </div>`;
}

render(html`<${Page} />`, document.getElementById('page'));
