import type { Chart as Data } from "./model";

const HEIGHT = 40;
const BARS = 14;

/** The last hour: interviews under way as an area, and below it how many started and ended in each minute. */
export function Chart({ chart }: { chart: Data | null }) {
  if (chart === null) return <div class="chart panel" />;
  const { minutes } = chart;
  const most = Math.max(1, ...minutes.map(([live]) => live));
  const mostChanges = Math.max(1, ...minutes.map(([, starts, ends]) => Math.max(starts, ends)));
  const [starts, ends] = [sum(minutes.map((one) => one[1])), sum(minutes.map((one) => one[2]))];
  const y = (live: number): number => round(HEIGHT - (live / most) * (HEIGHT - 1));
  const steps = minutes.map(([live], i) => `${i},${y(live)} ${i + 1},${y(live)}`).join(" ");
  const said = `In the last hour at most ${most} at once; ${starts} started and ${ends} ended.`;
  return (
    <figure class="chart panel" aria-labelledby="chart-title">
      <figcaption>
        <h2 id="chart-title">Last hour</h2>
        <ul class="legend">
          <li class="key-live">in progress</li>
          <li class="key-starts">
            <b>{starts}</b> started
          </li>
          <li class="key-ends">
            <b>{ends}</b> ended
          </li>
        </ul>
      </figcaption>
      <div class="plot">
        <span class="most" aria-hidden="true">
          {most}
        </span>
        <svg role="img" aria-label={said} viewBox={`0 0 ${minutes.length} ${HEIGHT + 2 + 2 * BARS}`} preserveAspectRatio="none">
          <line class="grid" x1="0" x2={minutes.length} y1="1" y2="1" />
          <polygon class="area" points={`0,${HEIGHT} ${steps} ${minutes.length},${HEIGHT}`} />
          <polyline class="line" points={steps} />
          {minutes.map(([, started, ended], i) => (
            <>
              <Bar kind="starts" at={i} from={HEIGHT + 1 + BARS} height={(-started / mostChanges) * BARS} />
              <Bar kind="ends" at={i} from={HEIGHT + 2 + BARS} height={(ended / mostChanges) * BARS} />
            </>
          ))}
          <line class="grid" x1="0" x2={minutes.length} y1={HEIGHT + 1.5 + BARS} y2={HEIGHT + 1.5 + BARS} />
        </svg>
      </div>
      <div class="axis muted" aria-hidden="true">
        <span>60 min ago</span>
        <span>30 min</span>
        <span>now</span>
      </div>
    </figure>
  );
}

function Bar({ kind, at, from, height }: { kind: string; at: number; from: number; height: number }) {
  if (height === 0) return null;
  const top = round(Math.min(from, from + height));
  return <rect class={kind} x={at + 0.15} width="0.7" y={top} height={round(Math.abs(height))} />;
}

function sum(numbers: number[]): number {
  return numbers.reduce((total, one) => total + one, 0);
}

function round(number: number): number {
  return Math.round(number * 100) / 100;
}
