// Live updates and shortcuts. All pages work without JavaScript.
import "./forms.js";
import "./keys.js";
import "./search.js";
import "./times.js";
import { follow } from "./figures.js";

document.addEventListener("visibilitychange", follow);
window.addEventListener("pageshow", follow);
