import { type ReactNode, useId, useLayoutEffect, useRef } from "react";
import "./dialog.css";

/** A window above the page, open as long as it is there; Escape and a click beside it close it. */
export function Dialog({
  title,
  close,
  children,
}: {
  title: string;
  close: () => void;
  children: ReactNode;
}) {
  const box = useRef<HTMLDialogElement>(null);
  const heading = useId();
  // It is closed before it is gone: only then the focus goes back to where it was.
  useLayoutEffect(() => {
    const dialog = box.current;
    dialog?.showModal();
    return () => dialog?.close();
  }, []);
  return (
    // biome-ignore lint/a11y/useKeyWithClickEvents: Escape does by keyboard what a click beside does
    <dialog
      ref={box}
      aria-labelledby={heading}
      onCancel={(event) => {
        event.preventDefault();
        close();
      }}
      // A second Escape closes it without asking.
      onClose={({ currentTarget }) => {
        if (currentTarget.open) return;
        close();
        currentTarget.showModal(); // for as long as it is there
      }}
      onClick={(event) => {
        if (event.target === event.currentTarget) close();
      }}
    >
      <div className="dialog">
        <h2 id={heading}>{title}</h2>
        {children}
        {/* The last, so that what is asked for has the focus first. */}
        <button type="button" className="plain close" onClick={close} aria-label="Close">
          ✕
        </button>
      </div>
    </dialog>
  );
}
