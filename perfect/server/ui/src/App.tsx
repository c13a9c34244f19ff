import { QueryClientProvider } from "@tanstack/react-query";
import { Link, Route, Router, Switch } from "wouter";
import { BASE } from "./api/client";
import { queryClient } from "./api/queries";
import { History } from "./pages/History";
import { Library } from "./pages/Library";
import { Clients, Schedules } from "./pages/Plain";
import { RunPage } from "./pages/RunPage";
import { Shell } from "./parts/Shell";

export function App() {
  return (
    <QueryClientProvider client={queryClient}>
      <Router base={BASE}>
        <Shell>
          <Switch>
            <Route path="/" component={Library} />
            <Route path="/history" component={History} />
            <Route path="/runs/:id">{({ id }) => <RunPage key={id} id={id} />}</Route>
            <Route path="/schedules" component={Schedules} />
            <Route path="/clients" component={Clients} />
            <Route>
              <p className="notice">
                There is no such page. <Link href="/">To the library</Link>
              </p>
            </Route>
          </Switch>
        </Shell>
      </Router>
    </QueryClientProvider>
  );
}
