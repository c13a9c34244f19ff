import { Component, type ReactNode } from "react";

/** In place of a page that broke: that it did, and how to go on. */
export class Boundary extends Component<{ children: ReactNode }, { error: Error | null }> {
  override state: { error: Error | null } = { error: null };

  static getDerivedStateFromError(error: unknown) {
    return { error: error instanceof Error ? error : new Error(String(error)) };
  }

  override render(): ReactNode {
    const { error } = this.state;
    if (error === null) return this.props.children;
    return (
      <div className="notice stack" role="alert">
        <h1>This page broke</h1>
        <p>
          The backend may be newer than the page, then loading it again helps. Your runs are not
          affected.
        </p>
        <pre>{error.message}</pre>
        <div className="row">
          <button type="button" onClick={() => location.reload()}>
            Load again
          </button>
          <button type="button" onClick={() => this.setState({ error: null })}>
            Try again
          </button>
        </div>
      </div>
    );
  }
}
