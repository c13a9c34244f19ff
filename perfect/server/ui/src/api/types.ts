/** The JSON of the backend's answers (its OpenAPI document has every field). Times are ISO 8601 UTC, durations ms. */

export type State =
  | "PENDING"
  | "RUNNING"
  | "RETRYING"
  | "COMPLETED"
  | "FAILED"
  | "SKIPPED"
  | "CANCELLED";

export const TERMINAL: ReadonlySet<State> = new Set([
  "COMPLETED",
  "FAILED",
  "SKIPPED",
  "CANCELLED",
]);

export interface Failure {
  type: string;
  message: string;
  traceback: string | null;
}

/** JSON Schema as far as the form of parameters goes by it; the backend checks the whole of it. */
export interface Schema {
  type?: string | string[];
  title?: string;
  description?: string;
  default?: unknown;
  enum?: unknown[];
  const?: unknown;
  anyOf?: Schema[];
  oneOf?: Schema[];
  prefixItems?: Schema[];
  readOnly?: boolean;
  writeOnly?: boolean;
  format?: string;
  properties?: Record<string, Schema>;
  required?: string[];
  items?: Schema;
  additionalProperties?: boolean | Schema;
  $ref?: string;
  $defs?: Record<string, Schema>;
  minimum?: number;
  maximum?: number;
}

export interface FlowTask {
  id: string;
  name: string;
  description: string | null;
  weight: number;
  estimatedTime: number;
  crucialPass: boolean;
}

export interface Flow {
  id: string;
  clientId: string;
  name: string;
  description: string | null;
  tags: Record<string, string>;
  tasks: FlowTask[];
  schedule: string | Record<string, unknown> | null;
  nextFire: string | null;
  parameters: Schema | null;
  edges: [number, number][] | null;
  connected: boolean;
  lastRun: LastRun | null;
}

/** What a flow tells of its newest run. */
export type LastRun = Pick<
  Run,
  "id" | "state" | "createdAt" | "startTime" | "endTime" | "durationMs" | "cancelling"
>;

export interface Run {
  id: string;
  flowId: string | null;
  flowName: string;
  clientId: string;
  state: State;
  startTime: string | null;
  endTime: string | null;
  createdAt: string;
  durationMs: number | null;
  configuration: string;
  parameters: Record<string, unknown> | null;
  tags: Record<string, string>;
  trigger: string;
  parent: string | null;
  retryOf: string | null;
  /** 0–100. */
  progress: number;
  taskCount: number;
  logLines: number;
  inferred: boolean;
  cancelling: boolean;
  reason: string | null;
  error: Failure | null;
  reportPath: string | null;
  /** Of the stream: the run is gone. */
  deleted?: boolean;
}

/** An earlier attempt of a task. */
export interface Attempt {
  attempt: number;
  startTime: string | null;
  endTime: string | null;
  durationMs: number | null;
  error: Failure | null;
  reason: string | null;
  worker: string | null;
}

export interface TaskResult {
  passed: boolean;
  note: string | null;
  table: Record<string, unknown>[] | null;
}

export interface Task {
  id: string;
  index: number;
  taskName: string;
  state: State;
  attempt: number;
  startTime: string | null;
  endTime: string | null;
  durationMs: number | null;
  /** Its share of the run; the stream does not tell it. */
  weight?: number;
  estimatedTime: number;
  /** 0–100. */
  progress: number;
  /** The task tells its progress itself. */
  ownProgress: boolean;
  reason: string | null;
  crucialPass: boolean;
  mapIndex: number | null;
  upstream: number[] | null;
  performanceWarning: boolean;
  unusualAfterMs: number | null;
}

/** One page of a run's tasks. */
export interface Tasks {
  tasks: Task[];
  next: number | null;
  total: number;
  states: Partial<Record<State, number>>;
}

export interface WholeTask extends Task {
  result: TaskResult | null;
  error: Failure | null;
  attempts: Attempt[];
}

export interface Line {
  seq: number;
  task: number | null;
  stream: "stdout" | "stderr" | "logging" | "system";
  level: string;
  time: string;
  text: string;
}

export interface Lines {
  logs: Line[];
  next: number | null;
  total: number;
}

export interface Runs {
  runs: Run[];
  next: string | null;
}

export interface Session {
  session: string;
  native: boolean;
  agent: string | null;
  firstSeen: string;
  lastSeen: string;
  polling: boolean;
  freeSlots: number | null;
  concurrency: number | null;
  flows: string[];
  flowCount: number;
  activeRuns: string[];
  activeRunCount: number;
}

export interface Client {
  clientId: string;
  sessions: Session[];
  sessionCount: number;
}

export interface Version {
  version: string;
  /** What the viewer may do; open: this backend asks for no token. */
  access: "full" | "read" | "open";
}

/** Average and deviation are of all samples since statistics were cleared, the rest of the newest runs. */
export interface Statistics {
  runs: number;
  avgDurationMs: number;
  stdDevDurationMs: number;
  sampleCount: number;
  lastUpdated: string | null;
  completed: number;
  failed: number;
  /** 0–1. */
  successRate: number | null;
  p95DurationMs: number | null;
}

export interface FlowStatistics extends Statistics {
  flowId: string;
  flowName: string;
  clientId: string;
  lastRun: string | null;
}

export interface TaskStatistics extends Statistics {
  taskName: string;
}

/** A run, or a task of one, that is over. */
export interface Ended {
  runId: string;
  state: State;
  startTime: string | null;
  endTime: string | null;
  durationMs: number | null;
}

export interface WholeStatistics extends Statistics {
  lastRun: string | null;
  history: Ended[];
  tasks: TaskStatistics[];
}

export interface Slot {
  slot: string;
  runId: string | null;
  state: State | null;
  reason: string | null;
}

export interface Schedule {
  id: string;
  flowId: string;
  flowName: string;
  clientId: string;
  expression: string;
  timezone: string;
  catchup: "skip" | "latest" | "all";
  overlap: "allow" | "skip";
  configuration: string;
  parameters: Record<string, unknown> | null;
  paused: boolean;
  next: string[];
  slots: Slot[];
}
