import { QueryClientProvider } from "@tanstack/react-query";
import { Route, Router, Switch } from "wouter";
import { BASE } from "./api/client";
import { queryClient } from "./api/queries";
import { ClientsPage } from "./clients/ClientsPage";
import { History } from "./pages/History";
import { Library } from "./pages/Library";
import { RunPage } from "./pages/RunPage";
import { Keys } from "./parts/Keys";
import { NotFound } from "./parts/NotFound";
import { Shell } from "./parts/Shell";
import { SchedulesPage } from "./schedules/SchedulesPage";
import { FlowPage } from "./statistics/FlowPage";
import { StatisticsPage } from "./statistics/StatisticsPage";

// a name may have any characters; "*" leaves line separators out
const FLOW = /^\/flows\/[\s\S]+$/;

export function App() {
  return (
    <QueryClientProvider client={queryClient}>
      <Router base={BASE}>
        <Keys />
        <Shell>
          <Switch>
            <Route path="/" component={Library} />
            <Route path="/history" component={History} />
            <Route path="/runs/:id">{({ id }) => <RunPage key={id} id={id} />}</Route>
            <Route path="/schedules" component={SchedulesPage} />
            <Route path="/statistics" component={StatisticsPage} />
            <Route path={FLOW} component={FlowPage} />
            <Route path="/clients" component={ClientsPage} />
            <Route component={NotFound} />
          </Switch>
        </Shell>
      </Router>
    </QueryClientProvider>
  );
}
