// Follows a search in progress. A hidden tab does not, so that its search ends after a minute.
import { reload } from "./fresh.js";

async function follow() {
  if (!document.hidden && document.querySelector("#search[data-running]")) await reload();
  setTimeout(follow, 1000);
}

if (document.querySelector("#search")) setTimeout(follow, 1000);
