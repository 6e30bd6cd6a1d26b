/**
 * The second panel: a few thousand buyers, made by the window's server, and their way drawn while they come. Numbers are
 * those of the processes' metrics. Everything drawn is in a table, too.
 */
import { html, useEffect, useLayoutEffect, useRef, useState } from './vendor/htm-preact-3.1.1.js';
import { ask } from './server.js';
import { number } from './words.js';

const NONE = { phase: 'none', points: [], end: null };
const POLL_MS = 250;
const IDLE_MS = 2000;
/** Rates are taken over at least so long: the processes are asked a few times a second. */
const RATE_MS = 500;

const CHARTS = [
  ['per_second', 'Orders settled per second', '--line-1'],
  ['per_write', 'Orders per row write', '--line-2'],
  ['queued', 'In the queue', '--line-3'],
  ['left', 'Left in stock', '--line-4'],
];

const NAMES = {
  settled: 'Orders settled',
  confirmed: 'of these confirmed',
  limit_reached: 'over the limit of a customer',
  sold_out: 'too late: sold out',
  row_writes: 'Writes of the stock’s row',
  sold_and_left: 'Put up = sold + left',
};

export function Stampede({ min, max, onServer }) {
  const [stampede, look] = useStampede(onServer);
  const [buyers, setBuyers] = useState(Math.min(2000, max));
  const [said, setSaid] = useState('');
  const isRunning = stampede.phase === 'running';
  const begin = async (event) => {
    event.preventDefault();
    if (isRunning) return;
    const { ok, status, body } = await ask('POST', '/demo/stampede', { buyers });
    onServer(status !== 0);
    setSaid(ok ? '' : `It did not begin: ${body?.detail ?? 'nobody answers'}.`);
    look();
  };
  const rows = withRates(stampede);
  return html`
    <section class="panel stampede" aria-labelledby="stampede-title" data-testid="stampede" data-state=${stampede.phase}
      data-right=${stampede.end ? String(stampede.end.is_right) : null}>
      <h2 id="stampede-title">The stampede</h2>
      <p class="lead">Buyers come within seconds for one product. Each tries three times; nobody may have more than two pieces, and there are too few for all.</p>
      <form class="begin" onSubmit=${begin}>
        <label>Buyers
          <input type="number" inputmode="numeric" data-testid="buyers" min=${min} max=${max} step="100" required value=${buyers}
            onInput=${(event) => setBuyers(event.target.valueAsNumber || 0)} />
        </label>
        <button class="main" data-testid="begin" aria-disabled=${String(isRunning)}>${isRunning ? 'They are buying…' : 'Let them in'}</button>
      </form>
      <p class="said" role="status" data-testid="stampede-said">${said || headline(stampede)}</p>
      <${Now} row=${rows.at(-1)} stampede=${stampede} />
      <div class="charts">
        ${CHARTS.map(([name, title, color]) => html`<${Chart} key=${name} name=${name} title=${title} color=${color} rows=${rows} />`)}
      </div>
      ${stampede.end && html`<${End} stampede=${stampede} />`}
      <${Points} rows=${rows} />
    </section>`;
}

function headline({ phase, buyers, put_up, end, detail }) {
  if (phase === 'running') return `${number(buyers)} buyers want ${number(put_up)} tickets.`;
  if (phase === 'failed') return `The stampede failed: ${detail}.`;
  if (phase !== 'over') return 'Nobody is here yet.';
  return end.is_right
    ? 'All counted numbers are those of the database, and nobody has more than two.'
    : 'The numbers do NOT agree.';
}

/** Asks how the stampede is: often while it runs, and else now and then, because another page may begin one. */
function useStampede(onServer) {
  const [stampede, setStampede] = useState(NONE);
  const hurry = useRef(() => {});
  useEffect(() => {
    let isGone = false;
    let timer;
    const look = async () => {
      clearTimeout(timer);
      const { ok, status, body } = document.hidden ? {} : await ask('GET', '/demo/stampede');
      if (isGone) return;
      if (status !== undefined) onServer(status !== 0);
      if (ok) setStampede((old) => (isSame(old, body) ? old : body));
      clearTimeout(timer);
      timer = setTimeout(look, body?.phase === 'running' ? POLL_MS : IDLE_MS);
    };
    hurry.current = look;
    document.addEventListener('visibilitychange', look);
    look();
    return () => {
      isGone = true;
      clearTimeout(timer);
      document.removeEventListener('visibilitychange', look);
    };
  }, []);
  return [stampede, () => hurry.current()];
}

const isSame = (a, b) => a.number === b.number && a.phase === b.phase && a.points.length === b.points.length;

/** The points, each with what happened in the time before it. */
function withRates({ phase, points, put_up }) {
  if (phase === 'none') return [];
  const start = { ms: 0, accepted: 0, refused: 0, settled: 0, row_writes: 0, queued: 0, left: put_up };
  const all = [start, ...points];
  let at = 0;
  return all.map((point) => {
    while (point.ms - all[at + 1]?.ms >= RATE_MS) at++;
    const before = all[at];
    const settled = point.settled - before.settled;
    const writes = point.row_writes - before.row_writes;
    const seconds = (point.ms - before.ms) / 1000;
    return {
      ...point,
      per_second: seconds > 0 ? Math.round(settled / seconds) : 0,
      per_write: writes > 0 ? settled / writes : null,
    };
  });
}

/** The four numbers, as large as they may be seen from the last row. */
function Now({ row, stampede: { end } }) {
  const shown = [
    [end ? end.orders_per_second : row?.per_second, end ? 'orders answered per second' : 'orders settled per second'],
    [end ? end.orders_per_row_write : row?.per_write, 'orders per row write'],
    [row?.queued, 'in the queue'],
    [row?.left, 'left in stock'],
  ];
  return html`
    <dl class="now" aria-live="off">
      ${shown.map(([value, name]) => html`
        <div key=${name}><dt>${name}</dt><dd>${value == null ? '–' : number(value >= 100 ? Math.round(value) : value)}</dd></div>`)}
    </dl>`;
}

function Chart({ name, title, color, rows }) {
  const place = useRef(null);
  const chart = useRef(null);
  const scheme = useScheme();

  useLayoutEffect(() => {
    const style = getComputedStyle(place.current);
    const read = (variable) => style.getPropertyValue(variable).trim();
    const line = read(color);
    const axis = {
      stroke: read('--soft'), font: `12px ${read('--font')}`,
      grid: { stroke: read('--grid'), width: 1 }, ticks: { show: false },
    };
    const size = () => ({ width: Math.max(120, place.current.clientWidth), height: 150 });
    const options = {
      ...size(),
      legend: { show: false },
      cursor: { show: false },
      scales: { x: { time: false, range: (chart) => [0, Math.max(8, chart.data[0].at(-1) ?? 0)] }, y: { range: (_, from, to) => [0, Math.max(1, to ?? 0) * 1.1] } },
      axes: [
        { ...axis, size: 28, space: 48, values: (_, all) => all.map((it) => `${it} s`) },
        { ...axis, size: 48, space: 32, values: (_, all) => all.map((it) => short(it)) },
      ],
      series: [{}, { stroke: line, width: 2, fill: line + '22', spanGaps: true, points: { show: false } }],
    };
    chart.current = new globalThis.uPlot(options, data(rows, name), place.current);
    const resized = new ResizeObserver(() => chart.current.setSize(size()));
    resized.observe(place.current);
    return () => {
      resized.disconnect();
      chart.current.destroy();
    };
  }, [scheme]);
  useEffect(() => chart.current.setData(data(rows, name)), [rows.length, rows.at(-1)?.ms]);

  return html`
    <figure class="chart">
      <figcaption>${title}</figcaption>
      <div ref=${place} role="img" aria-label=${`${title}, drawn over the seconds of the stampede. All points are in the table below.`}></div>
    </figure>`;
}

const data = (rows, name) => [rows.map((row) => row.ms / 1000), rows.map((row) => row[name])];

const short = (value) => (value >= 1000 ? `${value / 1000}k` : String(value));

/** Which colours the visitor's system likes; charts have to be drawn again when that changes. */
function useScheme() {
  const query = matchMedia('(prefers-color-scheme: dark)');
  const [isDark, setDark] = useState(query.matches);
  useEffect(() => {
    const listener = () => setDark(query.matches);
    query.addEventListener('change', listener);
    return () => query.removeEventListener('change', listener);
  }, []);
  return isDark;
}

/** What was counted, beside what the database says. */
function End({ stampede: { end, put_up, pieces_each } }) {
  const { sold, compared } = end;
  return html`
    <div class="end" data-right=${String(end.is_right)}>
      <h3 id="end-title">In the end</h3>
      <div class="scroll" tabindex="0" role="region" aria-labelledby="end-title">
        <table>
          <thead><tr><th scope="col">What</th><th scope="col">Counted</th><th scope="col">Database</th><th scope="col"><span class="for-readers">Equal</span></th></tr></thead>
          <tbody>
            ${compared.map(({ name, counted, database }) => html`
              <tr key=${name} data-testid="compared" data-name=${name} data-counted=${counted} data-database=${database}>
                <th scope="row">${NAMES[name] ?? name}</th><td>${number(counted)}</td><td>${number(database)}</td>
                <td>${counted === database ? '✓' : '✗'} <span class="for-readers">${counted === database ? 'equal' : 'not equal'}</span></td>
              </tr>`)}
          </tbody>
        </table>
      </div>
      <p>Of ${number(put_up)} pieces <b data-testid="sold" data-value=${sold.pieces}>${number(sold.pieces)}</b> are sold
        to ${number(sold.customers)} customers, and <b data-testid="left" data-value=${sold.left}>${number(sold.left)}</b> are left.
        The most that anybody has is ${number(sold.most_per_customer)}; ${number(pieces_each)} are allowed.</p>
      <p class="small">The audit: ${end.says}.</p>
    </div>`;
}

function Points({ rows }) {
  const [isOpen, setOpen] = useState(false);
  return html`
    <details class="points" onToggle=${(event) => setOpen(event.currentTarget.open)}>
      <summary>All points as a table</summary>
      <div class="scroll" tabindex="0" role="region" aria-label="All points">
        <table data-testid="points">
          <thead><tr>
            <th scope="col">Second</th><th scope="col">Accepted</th><th scope="col">Refused</th><th scope="col">Settled</th>
            <th scope="col">Settled per second</th><th scope="col">Per row write</th><th scope="col">Queue</th><th scope="col">Left</th>
          </tr></thead>
          <tbody>
            ${isOpen && rows.map((row) => html`
              <tr key=${row.ms}><th scope="row">${(row.ms / 1000).toFixed(1)}</th><td>${number(row.accepted)}</td><td>${number(row.refused)}</td>
                <td>${number(row.settled)}</td><td>${number(row.per_second)}</td><td>${row.per_write == null ? '–' : number(row.per_write)}</td>
                <td>${number(row.queued)}</td><td>${number(row.left)}</td></tr>`)}
          </tbody>
        </table>
      </div>
    </details>`;
}
