export function hotrow(options: T.Options): T.Shop;
/**
 * The client of Hotrow for front ends: one Buy is one order, through reloads, lost connections, overload and hidden
 * tabs. README.md says how to use it. types.d.ts says what each function does, so that this file stays small.
 */
/** @import * as T from './types.js' */
/** A defect: what neither the buyer nor waiting can mend. */
export class HotrowError extends Error {
    /**
     * @param {T.Problem} problem
     * @param {string | null} [retry_at]
     */
    constructor(problem: T.Problem, retry_at?: string | null);
    problem: {
        type: string;
        title: string;
        status: number;
        detail: string;
        code: string;
        request_id: string;
        order_id?: string;
        status_url?: string;
        errors?: {
            pointer: string;
            detail: string;
        }[];
        order?: import("./wire.js").components["schemas"]["Order"];
        unmatched?: boolean;
        state?: string;
        opens_at?: string;
        limit?: number;
        unit_price_minor?: number;
        until?: string;
    };
    code: string;
    retry_at: string | null;
}
/** @type {T.Why} */
export const why: T.Why;
import type * as T from './types.js';
