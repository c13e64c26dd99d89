// The pictures of the report in docs/, of the run of `saerl demo`: node pictures.mjs REPORT.html DOCS
//
//     CHROMIUM, PLAYWRIGHT    as for test_report.mjs
import path from "node:path";
import {launch, open} from "./browser.mjs";

const [, , report, docs] = process.argv;
const browser = await launch();

async function picture(name, section, scheme) {
  const {page, close} = await open(browser, report, {viewport: {width: 1180, height: 860}, colorScheme: scheme});
  if (section) {
    await page.locator(section).evaluate((e) => window.scrollTo(0, e.getBoundingClientRect().top + scrollY - 24));
  }
  await page.waitForTimeout(300);
  await page.screenshot({path: path.join(docs, name)});
  await close();
}

await picture("report.png", null, "light");
await picture("report-map.png", "#diversity", "dark");
await browser.close();
