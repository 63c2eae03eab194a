// Makes pages live and quicker to use. They work without it.
import "./forms.js";
import "./keys.js";
import "./times.js";
import { follow } from "./figures.js";

document.addEventListener("visibilitychange", follow);
window.addEventListener("pageshow", follow);
