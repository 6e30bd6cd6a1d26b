/**
 * What travels between Hotrow and its clients. Written by hand in the shape of openapi-typescript's output, with the
 * names of the description, so that the file can be generated from it; until then, docs/http.md is what it follows.
 */
export interface components {
  schemas: {
    /** An order, told apart by `status`. Statuses and reasons may be added. */
    Order:
      | components['schemas']['QueuedOrder']
      | components['schemas']['ReservedOrder']
      | components['schemas']['ConfirmedOrder']
      | components['schemas']['ExpiredOrder']
      | components['schemas']['CancelledOrder']
      | components['schemas']['RejectedOrder']
      | components['schemas']['FailedOrder'];
    /** An order that waits to be settled. */
    QueuedOrder: {
      order_id: string;
      status: 'queued';
      /** An estimate; it grows while nothing is settled. */
      estimated_wait_ms: number;
    };
    /** What every settled order has. What does not apply is null. */
    OrderDocument: {
      order_id: string;
      /** The first name of the order, if it was asked for by a later one. */
      alias_of: string | null;
      /** 1 at settling, and one more with each change. */
      revision: number;
      reason: string | null;
      customer_id: string;
      items: components['schemas']['OrderedItem'][];
      total_minor: number | null;
      currency: string | null;
      accepted_at: string;
      settled_at: string;
      updated_at: string;
      /** Until when the goods are held, while it is reserved. */
      expires_at: string | null;
      payment_reference: string | null;
      /** Of a cancelled order, whether its goods went back. */
      restocked: boolean | null;
    };
    /** The goods are held until `expires_at`, and wait to be paid. */
    ReservedOrder: components['schemas']['OrderDocument'] & { status: 'reserved'; expires_at: string };
    /** The customer has the goods. */
    ConfirmedOrder: components['schemas']['OrderDocument'] & { status: 'confirmed' };
    /** The hold was over before a payment came. */
    ExpiredOrder: components['schemas']['OrderDocument'] & { status: 'expired'; reason: string };
    /** The order was given up. */
    CancelledOrder: components['schemas']['OrderDocument'] & { status: 'cancelled'; reason: string };
    /** Nothing was taken; `reason` says why. */
    RejectedOrder: components['schemas']['OrderDocument'] & { status: 'rejected'; reason: string };
    /** The order could not be settled, and an operator has to look at it. */
    FailedOrder: components['schemas']['OrderDocument'] & { status: 'failed'; reason: string };
    OrderedItem: { sku: string; quantity: number; unit_price_minor: number | null };
    /** A product with its stock. */
    Product: {
      sku: string;
      title: string;
      unit_price_minor: number;
      currency: string;
      available: number;
      held: number;
      sale: components['schemas']['Sale'] | null;
      sold_out: boolean;
      /** `open`, `not_open`, `closed`, `paused`, `sold_out` or `all_held`. More may be added. */
      state: string;
      as_of: string;
    };
    /** The rules of a sale. */
    Sale: {
      hold_seconds: number | null;
      hold_seconds_max: number | null;
      max_per_order: number | null;
      max_per_customer: number | null;
      opens_at: string | null;
      closes_at: string | null;
      paused: boolean;
    };
    /** Why a request is refused (RFC 9457). */
    Problem: {
      type: string;
      title: string;
      status: number;
      detail: string;
      /** For programs. More may be added. */
      code: string;
      request_id: string;
      /** Of an order whose outcome is not known. */
      order_id?: string;
      status_url?: string;
      /** All faults of a body. */
      errors?: { pointer: string; detail: string }[];
      /** Of a conflict: the order as it is. */
      order?: components['schemas']['Order'];
      /** Of a conflict: the payment is listed as unmatched. */
      unmatched?: boolean;
      /** Of what is sold out: `all_held` if goods may come back. */
      state?: string;
      /** Of a sale that has not begun. */
      opens_at?: string;
      /** Of a limit: how many pieces it allows. */
      limit?: number;
      /** Of a price that has changed: the present one. */
      unit_price_minor?: number;
      /** Of purchases that are stopped: when they go on. */
      until?: string;
    };
  };
}
