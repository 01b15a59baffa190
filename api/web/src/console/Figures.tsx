import type { Cluster } from "./model";

/** The whole in a few numbers. */
export function Figures({ cluster, counts }: { cluster: Cluster | null; counts: { live: number; waiting: number } }) {
  const parked = cluster?.parked.length ?? 0;
  const room = cluster === null ? null : Math.max(0, cluster.capacity - cluster.live_actors);
  const nodes = cluster?.nodes.filter((node) => node.alive) ?? null;
  const draining = nodes?.filter((node) => node.draining).length ?? 0;
  return (
    <dl class="figures">
      <Figure name="In progress" value={counts.live} note="now" />
      <Figure name="Waiting" value={counts.waiting} note="to start" />
      <Figure name="Parked" value={parked} note={parked > 0 ? "need you" : "none given up"} tone={parked > 0 ? "danger" : ""} />
      <Figure name="Warm" value={cluster?.warm_actors ?? null} note={cluster?.starting_actors ? `${cluster.starting_actors} starting` : "ready to start"} />
      <Figure name="Free places" value={room} note={cluster === null ? "" : `of ${number(cluster.capacity)}`} tone={room === 0 ? "danger" : ""} />
      <Figure name="Nodes" value={nodes?.length ?? null} note={draining > 0 ? `${draining} draining` : "in use"} />
    </dl>
  );
}

interface FigureProps {
  name: string;
  value: number | null;
  note?: string;
  tone?: "danger" | "";
}

function Figure({ name, value, note, tone = "" }: FigureProps) {
  return (
    <div class="figure panel">
      <dt>{name}</dt>
      <dd>
        <span class={tone === "danger" ? "value error" : "value"}>{value === null ? "–" : number(value)}</span>
        {note && <span class="muted note">{note}</span>}
      </dd>
    </div>
  );
}

function number(value: number): string {
  return value.toLocaleString();
}
