// Milliseconds until a report is open and drawn, five times: node open_time.mjs REPORT.html
//
//     CHROMIUM, PLAYWRIGHT    as for test_report.mjs
import {launch, open} from "./browser.mjs";

const browser = await launch();
const times = [];
for (let i = 0; i < 5; i++) {
  const {page, close} = await open(browser, process.argv[2]);
  times.push(await page.evaluate(() => new Promise((done) => {
    // Two frames after the load event: what it asked for has been drawn.
    requestAnimationFrame(() => requestAnimationFrame(() => done(performance.now())));
  })));
  await close();
}
await browser.close();
console.log(times.map((t) => t.toFixed(0)).join(" "));
