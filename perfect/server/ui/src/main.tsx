import { StrictMode } from "react";
import { createRoot } from "react-dom/client";
import { App } from "./App";
import { feed } from "./feed";
import "./styles.css";

const root = document.getElementById("root");
if (root === null) throw new Error("the page has no #root");
createRoot(root).render(
  <StrictMode>
    <App />
  </StrictMode>,
);
if (!location.pathname.includes("/runs/")) feed.follow(null);
