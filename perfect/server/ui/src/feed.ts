import { queryClient } from "./api/queries";
import { Feed } from "./api/stream";

export const feed = new Feed(queryClient);
