// What every part of the page needs.

import type { Channel } from "../channel";
import type { Action, Passed } from "./machine";
import type { Media } from "./media";
import type { PageConfig, Store } from "./types";
import type { Video } from "./video";

/** `hasEnteredFullScreen`: on the start, or since. */
export interface TabState extends Passed {
  hasEnteredFullScreen: boolean;
}

export interface Kit {
  config: PageConfig;
  token: string;
  channel: Channel;
  media: Media;
  video: Video;
  store: Store | null;
  dispatch(action: Action): void;
}
