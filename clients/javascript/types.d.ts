/**
 * What `hotrow.js` takes and gives, and what its parts do: there, a function only names its type, so that the module
 * stays small.
 */
import type { components } from './wire.js';

type Schemas = components['schemas'];

// ---- what pages use

/** A word that may be one that did not exist when this was written. */
export type Open<Word> = Word | (string & {});

/** An order, as `GET /v1/orders/{order_id}` shows it. */
export type Order = Schemas['Order'];

/**
 * Why something is refused, as RFC 9457 has it. What the client notices by itself has the codes `connection_lost`,
 * `not_hotrow`, `gave_up` or `http_<status>`.
 */
export type Problem = Schemas['Problem'];

/** A product with its stock and the rules of its sale. */
export type Product = Schemas['Product'];

/** How much of a product there is. Where it had to be polled, it may lack its version and have more of the product. */
export type Stock = Pick<Product, 'sku' | 'available' | 'held' | 'state'> & { version?: number };

export interface Cart {
  /**
   * What is bought: 1 to 20 products, all or none. With `unit_price_minor`, the price that the buyer saw, the order is
   * refused if the price is another by now.
   */
  items: { sku: string; quantity: number; unit_price_minor?: number }[];
  /** Who buys. A customer with a token may leave it out. */
  customer_id?: string;
}

/** How a purchase stands. Each state is whole: show it, and forget the one before. */
export interface State {
  /**
   * `sending` until Hotrow has the order, then the order's own status, which may be one that did not exist when the
   * page was written. `rejected` without an order is a refusal at the door.
   */
  status: Open<'sending' | Order['status']>;
  /** The order as it was last heard of. */
  order: Order | null;
  /**
   * What is in the way: of `rejected` the reason, and otherwise something that the client deals with by itself. Null
   * if all is well.
   */
  problem: Problem | null;
  /**
   * When the client tries again (RFC 3339, by this machine's clock). Of `rejected`, when it may be worth it to buy
   * again.
   */
  retry_at: string | null;
}

/** What `live` yields: one of stock, order and problem; the others are null. */
export interface Change {
  stock: Stock | null;
  order: Order | null;
  /** Why nothing is heard at the moment. It is over with the next change. */
  problem: Problem | null;
  /** When the client tries again. */
  retry_at: string | null;
}

/** A purchase that is stored until its outcome was shown. */
export interface Purchase extends Cart {
  /** The idempotency key. */
  key: string;
  /** When it began, in milliseconds since 1970. */
  at: number;
  /** Null until Hotrow has the order. */
  order_id: string | null;
  /** Whether it was given up or refused, and is kept for the pages that may still send it. */
  is_void?: boolean;
  /** Whether the outcome is known and only has to be shown. */
  is_over: boolean;
  /** Before when it must not be sent again, in milliseconds since 1970. */
  wait_until: number;
  /** Why it was not taken when it was sent last. */
  problem: Problem | null;
}

/** What is needed of `localStorage`. It may be asynchronous, and it may throw. */
export interface Store {
  getItem(name: string): any;
  setItem(name: string, value: string): any;
  removeItem(name: string): any;
}

type Token = string | null | undefined;

export interface Options {
  /** Where Hotrow is, such as `https://orders.shop.example`. A path counts from the page. */
  url: string;
  /** The bearer token, or a function that gives it: it is asked before every request. What it throws is thrown. */
  token?: Token | (() => Token | Promise<Token>);
  /** Where purchases survive a reload: `localStorage` unless given, and memory where there is none. */
  storage?: Store;
  /** Hears of every state of every purchase, before the iteration does. What it throws ends the iteration. */
  onState?: (state: State, purchase: Purchase) => void;
}

export interface Stoppable {
  /** Ends everything at once: iterations end, promises are rejected with its reason. */
  signal?: AbortSignal;
}

/** An iteration. Leaving its loop ends what it does, and so does the signal. */
export type Iteration<T> = AsyncGenerator<T, void, void>;

export interface Shop {
  /**
   * Buys a cart, and yields how the purchase stands until nothing more changes by itself. Nothing is sent before the
   * iteration begins.
   *
   * A purchase of the same cart that has no outcome yet is continued and not begun again, whether it is of this page,
   * of another tab or from before a reload. What Hotrow does not sell is a state, and defects are thrown. To abort or
   * to leave the loop does not cancel the order.
   */
  buy(cart: Cart, options?: Stoppable): Iteration<State>;
  /**
   * Goes on with a purchase after a reload, also to show an outcome that nobody saw. Yields nothing if there is none.
   *
   * @param purchase one of `pending()`; the newest unless given
   */
  resume(purchase?: Purchase | null, options?: Stoppable): Iteration<State>;
  /**
   * The purchases that are under way in this browser, the newest first. Those that Hotrow may not have yet are in it
   * for an hour, the others for a week.
   */
  pending(): Promise<Purchase[]>;
  /**
   * Forgets a purchase, or all of them, as at a logout. It cancels no order.
   *
   * @param purchase one of `pending()`; all unless given
   */
  forget(purchase?: Purchase): Promise<unknown>;
  /**
   * Gives an order up, and returns how it stands then. If its state does not allow that, the problem is `conflict`.
   * While it is queued, or the cancellation is not settled yet, it is `not_settled`; where nothing was accepted,
   * `retry_at` says when to try again.
   */
  cancel(order_id: string, options?: Stoppable & { reason?: string; restock?: boolean }): Promise<State>;
  /** An order as it is now, and never as it was before something that this page has seen. */
  order(order_id: string, options?: Stoppable): Promise<Order>;
  /** A product with its stock, at most a second old. */
  stock(sku: string, options?: Stoppable): Promise<Product>;
  /**
   * Yields stock and orders as they are and then each change, until it is aborted or left. All iterations of a page
   * share one connection, and there is none while the page is hidden. A slow reader gets the newest states, not all.
   *
   * @param things at most 20 of each
   * @throws {RangeError} for more, or for nothing
   */
  live(things: { skus?: string[]; orders?: string[] }, options?: Stoppable): Iteration<Change>;
}

/** Opens a shop. Nothing is sent before one of its functions is called. */
export type Hotrow = (options: Options) => Shop;

/**
 * Returns the one word for why a purchase stands as it does: the problem's code, `all_held` for goods that are sold out
 * and may come back, or else the order's reason.
 */
export type Why = (state: State) => string | null;

// ---- words

export type MakeState = (
  status: string,
  order?: Order | null,
  problem?: Problem | null,
  retry_at?: string | null,
) => State;

export type MakeProblem = (status: number, code: string, title: string, detail: unknown) => Problem;

// ---- waiting

/**
 * Resolves when `start` says so, rejects with the signal's reason, and leaves nothing behind: `start` returns what
 * cleans up.
 */
export type WaitFor = (signal: AbortSignal, start: (resolve: () => void) => (() => void) | void) => Promise<void>;

/** Something that ends with its parent, by `end`, or so long after it was last extended. */
export interface Scope {
  signal: AbortSignal;
  end: () => void;
  extend: (ms: number) => void;
}

/** `AbortSignal.any` and `timeout` would nearly do, but for Safari before 17.4. */
export type MakeScope = (parent?: AbortSignal, ms?: number) => Scope;

/**
 * Calls the listener when the page is shown or hidden, comes back out of the history, or is online again. Returns what
 * stops it.
 */
export type OnPage = (listener: () => void) => () => void;

/** Waits until somebody looks at the page. */
export type Shown = (signal: AbortSignal) => Promise<void>;

/** How long to wait at best, and how long at least. */
export interface Rest {
  ms: number;
  floor: number;
}

/**
 * Waits. Once somebody looks at the page again, it is online again, or `hurry` is called, it waits for the floor only.
 * Timers stop while the machine sleeps, so the wall clock is compared as well.
 */
export type Pause = (rest: Rest, signal: AbortSignal, channel?: { hurry?: () => void }) => Promise<void>;

/**
 * How long to wait after so many failures: what the server asks for, and full jitter on top of it. Many pages are asked
 * to wait until the same moment, so the jitter grows with the wait.
 */
export type Backoff = (failures: number, floor: number) => Rest;

// ---- one request

export interface Answer {
  /** 0 for a lost connection. */
  status: number;
  body: any;
  problem: Problem | null;
  /** What `Retry-After` says, in milliseconds. */
  floor: number;
}

/**
 * Reads an answer to its end, within the time of its line. What it throws, as for a body that stops in the middle, is a
 * lost connection.
 */
export type Read = (response: Response, line: Scope) => Promise<Answer>;

export interface Asked {
  headers?: Record<string, string>;
  body?: unknown;
  /** How long the answer may take. */
  ms?: number;
  reader?: Read;
}

/** Sends a request, once. Throws only the signal's reason, and defects: a token that cannot be had or sent. */
export type Call = (signal: AbortSignal, method: string, path: string, asked?: Asked) => Promise<Answer>;
/**
 * Calls `giveWay` when a request has had no answer for a while, unless it says how long that may take: six pages with
 * streams use up the connections that a browser has to one host.
 */
export type MakeCall = (base: string, token: Options['token'], giveWay: () => void) => Call;

/**
 * Sends until a repeat would not change the answer, or would come after the deadline, and yields what is in the way
 * meanwhile.
 */
export type Insist = (
  signal: AbortSignal,
  send: () => Promise<Answer>,
  deadline?: number,
) => AsyncGenerator<State, Answer, void>;

// ---- what is stored

export type Update = (change: (list: Purchase[]) => Purchase[]) => Promise<unknown>;

/**
 * Keeps purchases until their outcome was shown, the newest last, and in memory alone while the storage fails. Reading
 * and writing are one step where the storage is not asynchronous, so two pages do not make two keys of one cart.
 */
export interface Stored {
  list: Shop['pending'];
  /** Whether a page has given a purchase up, or saw it refused: none sends it any more. */
  isVoid(purchase: Purchase): Promise<boolean>;
  /** Finds the purchase of this cart that has no outcome yet, or begins one. */
  open(cart: Cart): Promise<Purchase>;
  /** Keeps what became of a purchase, unless it is void or gone. */
  save(purchase: Purchase): Promise<unknown>;
  /** Notes for all pages that a purchase is void. */
  void(purchase: Purchase): Promise<unknown>;
  /** Forgets a purchase, or all of them. */
  close(purchase?: Purchase): Promise<unknown>;
}
export type MakeStored = (storage: Store | undefined, name: string) => Stored;

// ---- what is watched

/**
 * Reads a stream of events (HTML, section 9.2.6) but for what nobody needs. Tells of events with their data, and of
 * `retry` with its milliseconds. Returns what takes the next piece. A carriage return at the end of one may be half an
 * end of line.
 */
export type EventParser = (on: (event: string, data: string) => void) => (text: string) => void;

/** An order or a product, as a parameter of the stream: `orders=<id>` or `skus=<sku>`. */
export type Thing = string;

export interface Watcher {
  things: Thing[];
  channel?: Channel;
  /** What it was told last of each thing. */
  told: Map<Thing, string>;
  /** What it has not read yet: one state of each thing, however slow it reads. */
  inbox: Map<Thing | 'problem', Change>;
  /** What it has to throw. */
  error?: unknown;
  ring(): void;
}

/** One connection, by which many watchers hear: a browser opens six to one host, and a purchase needs one, too. */
export interface Channel {
  /** Ends with its last watcher. */
  life: Scope;
  /** One stream or poll; when it ends, the next one begins. */
  turn: Scope;
  /** What the present turn asks for, which may be more than is still wanted. */
  things: Thing[];
  failures: number;
  hurry?: () => void;
}

export type WatchersOf = (channel?: Channel) => Watcher[];
/** What watchers want to know, each thing once, and how the stream is asked for it. */
export interface Wanted {
  things: Thing[];
  orders: string[];
  skus: string[];
  /** How many there are of the kind of which there are more. */
  most: number;
  query: string;
}
export type Wishes = (all: Watcher[]) => Wanted;

/** Tells a watcher the newest state of a thing, unless it was told that last: `as_of` alone is no change. */
export type Tell = (watcher: Watcher, thing: Thing) => void;

/** Takes in a document, tells whoever watches it, and returns the newest that is known: states never go back. */
export type Show = (doc: any) => any;

/** Says why nothing is heard. */
export type Complain = (channel: Channel, answer: Answer) => Rest;

/** Opens a channel, on which something goes on until it ends. What that throws concerns all its watchers. */
export type OpenChannel = (go: (channel: Channel, signal: AbortSignal) => Promise<void>) => Channel;

export type Join = (watcher: Watcher) => void;
export type Leave = (watcher: Watcher) => void;

/**
 * Hands a defect on. A refusal of many things is about one of them, so each watcher then asks for its own, and those
 * that are not refused join again.
 */
export type Fail = (channel: Channel, error: unknown) => void;

/** One turn after the other, while there are watchers and the page is looked at. */
export type Run = (channel: Channel, signal: AbortSignal) => Promise<void>;

/**
 * One stream, from its beginning to its end. It also decides whether streams can be trusted. Where none began, it polls:
 * what a poll is refused as well is thrown.
 */
export type Listen = (channel: Channel, signal: AbortSignal, all: Wanted) => Promise<Rest>;

/**
 * Asks for everything once; for one order with a wait, so that its next state comes as soon as by a stream. Where nothing
 * can be reached, streams are not to blame.
 */
export type Poll = (channel: Channel, signal: AbortSignal, all: Wanted, seconds?: number) => Promise<Rest>;

/** Watches orders and stock by a stream, and by polls where streams die young. */
export type MakeWatching = (call: Call) => {
  show: Show;
  /** Ends all streams for a moment: each is begun anew, behind requests that wait for a connection. */
  giveWay(): void;
  watch(things: Thing[], signal: AbortSignal): Iteration<Change>;
};

// ---- the shop

/** Asks until there is an answer, but not for long: nobody hears why a promise takes its time. */
export type Ask = (method: string, path: string, options: Stoppable & { body?: unknown }) => Promise<Answer>;
export type BodyOf = (answer: Answer) => any;

/** Looks up the order of a purchase that an earlier page began. Null if one has to be placed. */
export type LookUp = (
  mine: Purchase,
  isResumed: boolean,
  signal: AbortSignal,
) => AsyncGenerator<State, Order | null, void>;

/** Places the order, always with the same key. Null if it was refused at the door. */
export type Place = (mine: Purchase, signal: AbortSignal) => AsyncGenerator<State, Order | null, void>;

/** A purchase from the first state to the last. */
export type Steps = (mine: Purchase, isResumed: boolean, signal: AbortSignal) => Iteration<State>;
export type Follow = (
  find: () => Promise<Purchase | undefined>,
  isResumed: boolean,
  signal: AbortSignal,
) => Iteration<State>;

/** Iterates until the caller's signal ends, which is no error. */
export type Until = <T>(signal: AbortSignal | undefined, begin: (signal: AbortSignal) => Iteration<T>) => Iteration<T>;
