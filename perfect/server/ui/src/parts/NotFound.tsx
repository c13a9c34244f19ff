import { Link } from "wouter";
import { useTitle } from "./title";

export function NotFound() {
  useTitle("No such page");
  return (
    <div className="notice">
      <h1>There is no such page</h1>
      <p>The address is not quite right, or it is of another version of the dashboard.</p>
      <Link href="/" className="button">
        To the library
      </Link>
    </div>
  );
}
