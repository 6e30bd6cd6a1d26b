/**
 * What the page says to each state of an order and of the product: what it is, and what to do. A word that is not in
 * here gets a sentence, too, because Hotrow may have new ones before the page has.
 */

/** @type {(minor: number | null | undefined, currency: string | null | undefined) => string} */
export const money = (minor, currency) => {
  if (minor == null || !currency) return '';
  try {
    const format = new Intl.NumberFormat(undefined, { style: 'currency', currency });
    return format.format(minor / 10 ** (format.resolvedOptions().maximumFractionDigits ?? 2));
  } catch {
    return `${minor} ${currency}`;
  }
};

const FORMAT = new Intl.NumberFormat(undefined, { maximumFractionDigits: 1 });

/** @type {(count: number) => string} */
export const number = (count) => FORMAT.format(count);

/** A word of the API as a person may read it. */
const readable = (word) => String(word).replaceAll('_', ' ');

/** The product's states: the short word on its sign, and what it means for a buyer. */
const PRODUCT = {
  open: ['On sale', ''],
  not_open: ['Not open yet', 'You can buy as soon as the sale begins.'],
  closed: ['Closed', 'This sale is over.'],
  paused: ['Paused', 'The sale stands still for a moment. The page shows when it goes on.'],
  sold_out: ['Sold out', 'Nothing is left. The page shows when more come.'],
  all_held: ['All held', 'Others hold the last ones. Those that are not paid come back, and the page shows it.'],
};

export const aboutProduct = (state) => {
  const [sign, text] = PRODUCT[state] ?? [readable(state), 'This page does not know the word. You can try to buy.'];
  return { sign, text };
};

/** Why an order came to nothing. */
const WHY = {
  sold_out: () => ['Sold out', 'Others were earlier, and nothing is left. Nothing was ordered. The stock above shows when more come.'],
  all_held: () => [
    'All are held for others',
    'Nothing is free now. Stay here: what is not paid comes back, and the stock above shows it. Then buy again.',
  ],
  limit_reached: ({ limit }) => [
    'That is more than you may have',
    `One customer may have ${limit ?? 'only so many'}, with what you hold and have bought. Buy fewer, or cancel an order that you hold.`,
  ],
  paused: () => ['The sale is paused', 'Nothing was ordered. Buy again when the sign above says that it is on sale.'],
  not_open: () => ['Not open yet', 'Nothing was ordered. The sale has not begun: buy again when it does.'],
  closed: () => ['The sale is over', 'Nothing was ordered, and nothing more is sold.'],
  price_changed: ({ now, seen }) => [
    'The price has changed',
    `It is ${now} now; you saw ${seen}. Nothing was ordered. Buy again if the new price suits you.`,
  ],
  unknown_sku: () => ['Not for sale', 'The shop no longer has this product. Nothing was ordered.'],
};

export const aboutRejected = (why, details) => {
  const known = WHY[why];
  if (known) {
    const [title, text] = known(details);
    return { title, text };
  }
  return {
    title: 'Not sold',
    text: details.detail || `The shop said “${readable(why ?? 'no')}”. Nothing was ordered.`,
  };
};

/** What is in the way while the client repeats by itself. */
const OBSTACLES = {
  connection_lost: 'The shop does not answer.',
  overloaded: 'Very many want to buy at this moment.',
  unavailable: 'A part of the shop is away.',
  rate_limited: 'You were a little too quick for the shop.',
  paused: 'All sales are stopped for the moment.',
  outcome_unknown: 'The shop does not know yet whether it has your order.',
  request_timeout: 'The connection is slow.',
};

export const aboutObstacle = (problem) =>
  OBSTACLES[problem.code] ?? `The shop said “${readable(problem.code)}”.`;

/** An order that is under way or done. */
const ORDER = {
  sending: ['Sending your order', 'One Buy is one order, whatever happens on the way. You may even reload the page.'],
  queued: ['In the queue', 'The shop has your order. First come, first served.'],
  reserved: ['Held for you', 'Pay before the time is over.'],
  confirmed: ['It is yours', 'Paid and confirmed.'],
  expired: ['The time is over', 'The order was not paid in time, so the goods went back. Buy again if there are any.'],
  cancelled: ['Cancelled', 'The goods went back, and you owe nothing.'],
  failed: ['Something went wrong', 'A person has to look at this order. Do not pay it, and ask the shop.'],
};

export const aboutOrder = (status) => {
  const [title, text] = ORDER[status] ?? [
    `Your order is “${readable(status)}”`,
    'This page does not know the word, but the shop knows your order.',
  ];
  return { title, text };
};
