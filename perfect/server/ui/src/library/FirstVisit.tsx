import { BASE } from "../api/client";

const FIRST = `from perfect import flow, task, listen

@task
def hello():
    print("hello")

@flow
def first():
    hello()

first()   # runs it, and shows it here
listen()  # waits for "Run"`;

/** What to do when there is no flow yet. */
export function FirstVisit() {
  return (
    <section className="notice stack" aria-labelledby="first">
      <h2 id="first">No flows yet</h2>
      <p>A flow is here as soon as a program that has it is connected. Save this as first.py:</p>
      <pre className="panel">{FIRST}</pre>
      <p>and run it where this backend can be reached:</p>
      <pre className="panel">
        PERFECT_BACKEND_URL={location.origin}
        {BASE} python first.py
      </pre>
      <p>
        Or look at the examples first: <code>perfect demo</code>
      </p>
    </section>
  );
}
