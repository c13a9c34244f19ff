/** Lays out graphs beside the page, which stays quick meanwhile. */

import type { Edges } from "./layout";
import { laidOut } from "./layout";

self.onmessage = ({ data }: MessageEvent<Edges>) => self.postMessage(laidOut(data));
