export function hotrow(options: T.Options): T.Shop;
/** The client of Hotrow for front ends. README.md is its manual; types.d.ts says what each function does. */
/** @import * as T from './types.js' */
/** A defect: neither the buyer nor waiting can fix it. */
export class HotrowError extends Error {
    /**
     * @param {T.Problem} problem
     * @param {string | null} [retry_at]
     */
    constructor(problem: T.Problem, retry_at?: string | null);
    /** @type {T.Problem} */
    problem: T.Problem;
    code: string;
    retry_at: string | null;
}
/** @type {T.Why} */
export const why: T.Why;
import type * as T from './types.js';
