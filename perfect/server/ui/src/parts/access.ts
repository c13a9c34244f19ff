import { useQuery } from "@tanstack/react-query";
import { version } from "../api/queries";

/** Whether the viewer may change anything; not with the token that only reads. */
export function useMayAct(): boolean {
  return useQuery(version).data?.access !== "read";
}
