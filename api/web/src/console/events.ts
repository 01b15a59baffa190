/** One server-sent event. */
export interface ServerEvent {
  type: string;
  data: string;
}

/** Takes the text of a stream of server-sent events apart, however it was cut into pieces. */
export class EventParser {
  private rest = "";

  /** The events that are complete with this piece. Comments and events without data are left out. */
  take(piece: string): ServerEvent[] {
    const blocks = (this.rest + piece).split("\n\n");
    this.rest = blocks.pop()!;
    return blocks.map(eventOf).filter((event) => event.data !== "");
  }
}

function eventOf(block: string): ServerEvent {
  const event = { type: "message", data: [] as string[] };
  for (const line of block.split("\n")) {
    const at = line.indexOf(":");
    const [name, value] = at < 0 ? [line, ""] : [line.slice(0, at), line.slice(at + 1).replace(/^ /, "")];
    if (name === "event") event.type = value;
    else if (name === "data") event.data.push(value);
  }
  return { type: event.type, data: event.data.join("\n") };
}
