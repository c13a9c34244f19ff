import { QueryClient } from "@tanstack/react-query";
import { expect, it } from "vitest";
import { putNews } from "./news";

const add = (all: number[]) => [...all, 2];

it("puts news into all answers of a kind that are up to date", () => {
  const queries = new QueryClient();
  for (const which of ["a", "b"]) queries.setQueryData(["runs", which], [1]);
  putNews(queries, ["runs"], add);
  expect(queries.getQueryData(["runs", "a"])).toEqual([1, 2]);
  expect(queries.getQueryData(["runs", "b"])).toEqual([1, 2]);
  putNews(queries, ["runs"], add, true);
  expect(queries.getQueryData(["runs", "a"])).toEqual([1, 2]);
});

it("leaves one that nobody looks at out of date", async () => {
  const queries = new QueryClient();
  queries.setQueryData(["runs", "a"], [1]);
  await queries.invalidateQueries();
  putNews(queries, ["runs"], add);
  expect(queries.getQueryState(["runs", "a"])).toMatchObject({ data: [1], isInvalidated: true });
});

it("makes no answer of news alone", () => {
  const queries = new QueryClient();
  putNews(queries, ["flows"], add, true);
  expect(queries.getQueryCache().getAll()).toEqual([]);
});
