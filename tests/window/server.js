/** The window's own server: who one is, and the few things that only a demo has. A shop has its own in its place. */

const STORED = 'hotrow visitor';
const RETRY_MS = 1000;
const ANSWER_MS = 15_000;

/** Asks the server. Never throws: `status` 0 is that nobody answered. */
export async function ask(method, path, body) {
  try {
    const headers = body ? { 'content-type': 'application/json' } : {};
    const signal = AbortSignal.timeout(ANSWER_MS);
    const response = await fetch(path, { method, headers, body: body && JSON.stringify(body), cache: 'no-store', signal });
    const text = await response.text();
    try {
      return { status: response.status, ok: response.ok, body: JSON.parse(text) };
    } catch {
      return { status: response.status, ok: false, body: { detail: text } };
    }
  } catch {
    return { status: 0, ok: false, body: null };
  }
}

const recall = () => {
  try {
    return localStorage.getItem(STORED);
  } catch {
    return null;
  }
};

/** Keeps a token at hand: of the visitor who was here before, or of a new one. */
export function admission(onVisitor) {
  let admitted = null;
  let asking = null;

  // It does not give up: to the client, a token that takes too long is a lost connection, and is tried again.
  const admit = async () => {
    for (;;) {
      const known = recall();
      const { ok, status, body } = await ask('POST', '/demo/token', { visitor: known });
      if (ok) {
        try {
          // Another page may have been first: then one is whom it says.
          if (recall() === known) localStorage.setItem(STORED, body.visitor);
        } catch {}
        onVisitor(body.visitor);
        const ms = body.good_for_seconds * 1000;
        admitted = { token: body.token, until: performance.now() + ms, date: Date.now() + ms };
        return body.token;
      }
      if (status === 422) admission.forget();
      await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
    }
  };

  const token = () => {
    // One of the clocks stands still while the machine sleeps, and the other one may be set.
    if (admitted && performance.now() < admitted.until && Date.now() < admitted.date) return admitted.token;
    asking ??= admit().finally(() => (asking = null));
    return asking;
  };
  return { token };
}

admission.forget = () => {
  try {
    localStorage.removeItem(STORED);
  } catch {}
};
