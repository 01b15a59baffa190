import { Cell, Table } from "./Rows";
import type { Node, Row } from "./model";
import { shortNode } from "./words";

interface Props {
  nodes: Node[];
  live: Row[];
  mayDrain: boolean;
  busy: string | null;
  onDrain(node: Node, draining: boolean): void;
}

/** Where interviews run, and taking a machine out of use and back. */
export function Nodes({ nodes, live, mayDrain, busy, onDrain }: Props) {
  const heads = ["Node", "Address", "CPUs", "Memory", "Interviews", "State", ...(mayDrain ? ["Actions"] : [])];
  return (
    <Table label="Nodes" heads={heads}>
      {nodes
        .filter((node) => node.alive)
        .map((node) => (
          <tr role="row" key={node.node}>
            <th role="rowheader" scope="row" class="who">
              <span title={node.node}>{shortNode(node.node)}</span>
            </th>
            <Cell head="Address">{node.address}</Cell>
            <Cell head="CPUs" kind="num">
              {node.cpu}
            </Cell>
            <Cell head="Memory" kind="num">
              {(node.memory_bytes / 2 ** 30).toFixed(1)} GiB
            </Cell>
            <Cell head="Interviews" kind="num">
              {node.live_on_draining ?? live.filter((row) => row.node === node.node).length}
            </Cell>
            <Cell head="State">
              {node.draining ? <span class="badge badge-paused">draining</span> : <span class="dot dot-here">in use</span>}
            </Cell>
            {mayDrain && (
              <td role="cell" class="actions">
                <div class="buttons">
                  <button
                    type="button"
                    class="small"
                    aria-busy={busy === node.node}
                    aria-label={`${node.draining ? "Take back" : "Drain"} node ${shortNode(node.node)}`}
                    onClick={() => onDrain(node, !node.draining)}
                  >
                    {node.draining ? "Take back" : "Drain…"}
                  </button>
                </div>
              </td>
            )}
          </tr>
        ))}
    </Table>
  );
}
