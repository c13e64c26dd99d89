// The HTML report in a real browser: that of `saerl demo`, and one made of hostile data.
//
//     PROGRAM, CHROMIUM, PLAYWRIGHT    saerl, the browser, the folder of playwright-core
//     UPLOT                            "yes" where it was embedded
import assert from "node:assert/strict";
import {execFileSync} from "node:child_process";
import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import {finish, launch, lowContrast, open, quiet, test} from "./browser.mjs";

const SECTIONS = ["verdict", "funnel", "difficulty", "quality", "diversity", "duplicates", "contamination", "sae", "curriculum", "fields", "baseline", "repeat"];
const folder = fs.mkdtempSync(path.join(os.tmpdir(), "saerl-browser-"));
process.on("exit", () => fs.rmSync(folder, {recursive: true, force: true}));

function saerl(...args) {
  return execFileSync(process.env.PROGRAM, args, {stdio: ["ignore", "pipe", "pipe"]});
}

// Every string that a data set can smuggle into a page, in every field that a report shows.
const HOSTILE = [
  "</script><script>window.pwned = 1</script>",
  "\"><img src=x onerror=\"window.pwned = 2\">",
  "'><svg onload='window.pwned = 3'><a href='javascript:window.pwned=4'>x</a>",
  "<style>* {display: none}</style><base href='http://example.invalid/'>",
  "</text></svg><iframe srcdoc='<script>parent.pwned = 5</script>'></iframe>",
  "<!-- <meta http-equiv=refresh content='0;url=http://example.invalid/'> --!>",
  "\u202eright to left\u202c \u200b\u2066\u0007\u0000\u001b[31mred\u001b[0m &lt;b&gt; &amp;",
  "<textarea><title></details></section></main>",
];

function writeHostile() {
  const rows = [];
  for (let i = 0; i < 64; i++) {
    const h = HOSTILE[i % HOSTILE.length];
    rows.push({id: `${h}${i}`, prompt: `${h} number ${i >> 2} of them`, answer: h, source: HOSTILE[(i >> 3) % HOSTILE.length], rewards: [1, i % 2]});
    rows.at(-1)[h] = h;
  }
  fs.writeFileSync(path.join(folder, "hostile.jsonl"), rows.map((r) => JSON.stringify(r) + "\n").join(""));
  fs.writeFileSync(path.join(folder, "<img src=x onerror=alert(1)>.jsonl"), rows.slice(0, 8).map((r) => JSON.stringify({question: r.prompt}) + "\n").join(""));
  saerl("audit", path.join(folder, "hostile.jsonl"), "--against", path.join(folder, "<img src=x onerror=alert(1)>.jsonl"),
    "-o", path.join(folder, "hostile"), "--set", "decontaminate.ngram=3");
  return path.join(folder, "hostile", "report.html");
}

saerl("demo", path.join(folder, "demo"));
const demo = path.join(folder, "demo", "out", "report.html");
const hostile = writeHostile();
const browser = await launch();

for (const [name, file] of [["demo", demo], ["hostile", hostile]]) {
  const {page, seen, close} = await open(browser, file);

  await test(`${name}: every section is there, and in the list of sections`, async () => {
    for (const id of SECTIONS) {
      assert.equal(await page.locator(`section#${id}`).count(), 1, id);
      assert.ok((await page.locator(`section#${id}`).innerText()).length > 20, id);
      assert.ok((await page.locator(`nav a[href="#${id}"]`).count()) >= 1, `nav: ${id}`);
    }
  });

  await test(`${name}: at most 2 MB, and nothing is fetched, said or tried`, async () => {
    assert.ok(fs.statSync(file).size <= 2000000);
    await page.mouse.wheel(0, 100000);
    quiet(seen);
  });

  await test(`${name}: texts of the data are texts and nothing else`, async () => {
    assert.equal(await page.evaluate(() => window.pwned), undefined);
    const strange = await page.evaluate(() =>
      [...document.querySelectorAll("img, iframe, object, embed, link, base, form, textarea, audio, video, meta[http-equiv=refresh], script[src]")].map((e) => e.outerHTML));
    assert.deepEqual(strange, []);
    const attributes = await page.evaluate(() =>
      [...document.querySelectorAll("*")].flatMap((e) => [...e.attributes].map((a) => [a.name, a.value])
        .filter(([n, v]) => n.startsWith("on") || n === "src" || n === "style" && !e.closest(".uplot") || n.endsWith("href") && !v.startsWith("#"))));
    assert.deepEqual(attributes, []);
  });

  await test(`${name}: the policy lets nothing in`, async () => {
    const policy = await page.locator("meta[http-equiv='Content-Security-Policy']").getAttribute("content");
    assert.match(policy, /^default-src 'none'/);
    assert.doesNotMatch(policy, /unsafe|http|\*|data:/);
  });

  await test(`${name}: controls and direction marks are made visible`, async () => {
    const text = await page.locator("main").innerText();
    assert.doesNotMatch(text, /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u200b\u202a-\u202e\u2066-\u2069]/);
    if (name === "hostile") assert.match(text, /\\u202e/);
  });

  await test(`${name}: headings, landmarks, names of pictures, tables and controls`, async () => {
    const said = await page.evaluate(() => {
      const levels = [...document.querySelectorAll("h1, h2, h3, h4")].map((h) => Number(h.tagName[1]));
      return {
        lang: document.documentElement.lang,
        title: document.title.length,
        h1: levels.filter((l) => l === 1).length,
        skips: levels.filter((l, i) => i > 0 && l > levels[i - 1] + 1).length,
        main: document.querySelectorAll("main").length,
        nav: document.querySelectorAll("nav[aria-label]").length,
        nameless: [...document.querySelectorAll("svg")].filter((s) => s.getAttribute("aria-hidden") !== "true" &&
          !(s.getAttribute("role") === "img" && (s.ariaLabel || s.getAttribute("aria-labelledby")?.split(" ").every((id) => document.getElementById(id)?.textContent.trim())))).length,
        captions: [...document.querySelectorAll("table")].filter((t) => !t.caption?.textContent.trim()).length,
        headless: [...document.querySelectorAll("th")].filter((t) => !t.textContent.trim()).length,
        scopes: [...document.querySelectorAll("th")].filter((t) => !t.scope).length,
        controls: [...document.querySelectorAll("input, button, select")].filter((c) => !(c.labels?.length || c.ariaLabel || c.textContent.trim())).length,
        ids: document.querySelectorAll("[id]").length - new Set([...document.querySelectorAll("[id]")].map((e) => e.id)).size,
      };
    });
    assert.ok(said.title > 5);
    assert.deepEqual({...said, title: 0, nav: Math.min(said.nav, 1)},
      {lang: "en", title: 0, h1: 1, skips: 0, main: 1, nav: 1, nameless: 0, captions: 0, headless: 0, scopes: 0, controls: 0, ids: 0});
  });

  await test(`${name}: what a screen reader is told`, async () => {
    const tree = await page.locator("body").ariaSnapshot();
    assert.match(tree, /^- (navigation|main|banner|link)/m);
    assert.match(tree, /heading "[^"]+" \[level=1\]/);
    assert.ok((tree.match(/heading "[^"]+" \[level=2\]/g) ?? []).length >= SECTIONS.length - 1);
  });

  await test(`${name}: contrast of at least 4.5 in both themes, everything unfolded`, async () => {
    await page.evaluate(() => document.querySelectorAll("details").forEach((d) => (d.open = true)));
    for (const colorScheme of ["light", "dark"]) {
      await page.emulateMedia({colorScheme});
      await page.waitForTimeout(300); // of a transition, if there is one
      assert.deepEqual((await page.evaluate(lowContrast, 4.5)).slice(0, 20), [], colorScheme);
    }
    await page.emulateMedia({colorScheme: "light"});
  });

  await test(`${name}: no sideways scrolling on a phone or a desktop`, async () => {
    for (const width of [360, 390, 768, 1280]) {
      await page.setViewportSize({width, height: 800});
      const wide = await page.evaluate(() => document.scrollingElement.scrollWidth - document.scrollingElement.clientWidth);
      assert.ok(wide <= 0, `${wide} pixels too wide at ${width}`);
    }
    await page.setViewportSize({width: 1280, height: 900});
  });

  await test(`${name}: prints`, async () => {
    assert.ok((await page.pdf({format: "A4"})).length > 10000);
    quiet(seen);
  });
  await close();
}

{
  const {page, seen, close} = await open(browser, demo);

  await test("a table is sorted by a click on its heading, numbers as numbers, and back", async () => {
    const tables = page.locator("table:has(thead button)");
    assert.ok((await tables.count()) > 0);
    let sorted = 0;
    for (let t = 0; t < (await tables.count()); t++) {
      const table = tables.nth(t);
      await table.evaluate((e) => { for (let d = e.closest("details"); d; d = d.parentElement.closest("details")) d.open = true; });
      const headings = table.locator("thead th");
      for (let column = 0; column < (await headings.count()); column++) {
        if (!((await headings.nth(column).getAttribute("class")) ?? "").includes("num")) continue;
        const values = () => table.evaluate((e, c) => [...e.tBodies[0].rows].map((r) => r.cells[c].textContent)
          .map((s) => Number(s.replace(/[,%\s]/g, ""))).filter((x) => !Number.isNaN(x)), column);
        await headings.nth(column).locator("button").click();
        const once = await values();
        const direction = await headings.nth(column).getAttribute("aria-sort");
        await headings.nth(column).locator("button").click();
        const twice = await values();
        const up = [...once].sort((a, b) => a - b), down = [...up].reverse();
        assert.ok(["ascending", "descending"].includes(direction));
        assert.deepEqual(once, direction === "ascending" ? up : down);
        assert.deepEqual(twice, direction === "ascending" ? down : up);
        sorted += up[0] !== up.at(-1);
        break;
      }
    }
    assert.ok(sorted >= 3, `${sorted} tables had anything to sort`);
  });

  await test("a chart is saved as a drawing that stands alone, and its table with all numbers", async () => {
    const {sections} = JSON.parse(fs.readFileSync(demo.replace(/html$/, "json"), "utf8"));
    const saved = async (figure, button) => {
      const [download] = await Promise.all([page.waitForEvent("download"), figure.locator(".tools button", {hasText: button}).click()]);
      return [download.suggestedFilename(), fs.readFileSync(await download.path(), "utf8")];
    };
    const [name, csv] = await saved(page.locator("#funnel figure").first(), "CSV");
    assert.match(name, /^saerl-funnel-.*\.csv$/);
    // In whatever order the table is by now.
    assert.deepEqual(csv.trim().split("\r\n").slice(1).map((l) => l.split(",").slice(1, 3).join()).sort(),
      sections.funnel.stages.map((s) => [s.in, s.dropped].join()).sort());
    const svg = (await saved(page.locator("#difficulty figure").first(), "SVG"))[1];
    assert.match(svg, /^<svg [^>]*xmlns="http:\/\/www\.w3\.org\/2000\/svg"/);
    assert.doesNotMatch(svg, /var\(|<script|data-words/);
    // Each drawing can be had in numbers.
    const lacking = await page.evaluate(() => [...document.querySelectorAll("svg.chart")]
      .filter((s) => !(s.closest("figure") ?? s.closest("article")).querySelector("table")).map((s) => s.ariaLabel ?? s.querySelector("title")?.textContent));
    assert.deepEqual(lacking, []);
  });

  await test("read-outs are sentences that can be understood", async () => {
    const words = await page.evaluate(() => [...document.querySelectorAll("svg.chart [data-words]")].map((e) => e.getAttribute("data-words")));
    assert.ok(words.length > 100);
    assert.deepEqual(words.filter((w) => /\b1 samples|^[\d,.]+$|NaN|undefined/.test(w)), []);
  });

  await test("the threshold slider tells what would be kept", async () => {
    const slider = page.locator("#quality input[type=range]");
    const output = page.locator("#quality output").first();
    const kept = [];
    assert.equal(await slider.count(), 1);
    // Untouched it says what the run itself did.
    const quality = JSON.parse(fs.readFileSync(demo.replace(/html$/, "json"), "utf8")).sections.quality;
    assert.match(await output.innerText(), new RegExp(`^${(quality.scored - quality.below).toLocaleString("en")} of `));
    for (const share of [0, 0.25, 0.5, 0.75, 1]) {
      await slider.evaluate((e, s) => {
        e.value = Number(e.min) + s * (Number(e.max) - Number(e.min));
        e.dispatchEvent(new Event("input", {bubbles: true}));
      }, share);
      kept.push(Number((await output.innerText()).match(/[\d,]+/)[0].replace(/,/g, "")));
    }
    assert.deepEqual([...kept].sort((a, b) => b - a), kept, `not falling: ${kept}`);
    assert.ok(kept[0] > kept[4]);
    await slider.focus();
    const before = await output.innerText();
    for (let i = 0; i < 40; i++) await page.keyboard.press("ArrowLeft");
    assert.notEqual(await output.innerText(), before);
  });

  await test("the timeline can be zoomed and reset", async () => {
    const plots = page.locator("#curriculum .uplot"), plot = plots.first(), other = plots.last();
    assert.equal(await plots.count(), process.env.UPLOT === "yes" ? 2 : 0); // difficulty, entropy
    if (process.env.UPLOT !== "yes") return;
    await plot.scrollIntoViewIfNeeded();
    const before = await plot.screenshot(), otherBefore = await other.screenshot();
    const box = await plot.locator(".u-over").boundingBox();
    await page.mouse.move(box.x + box.width * 0.3, box.y + box.height / 2);
    await page.mouse.down();
    await page.mouse.move(box.x + box.width * 0.6, box.y + box.height / 2, {steps: 5});
    await page.mouse.up();
    await page.mouse.move(box.x + box.width / 2, box.y + box.height + 200);
    const zoomed = await plot.screenshot();
    assert.notDeepEqual(zoomed, before);
    assert.notDeepEqual(await other.screenshot(), otherBefore, "the plots do not move together");
    const reset = page.locator("#curriculum button", {hasText: /reset|whole|all/i}).first();
    await reset.click();
    await page.mouse.move(0, 0);
    assert.notDeepEqual(await plot.screenshot(), zoomed);
  });

  await test("after all this nothing was fetched, said or tried", async () => quiet(seen));
  await close();
}

await test("high contrast keeps what the colours of a chart mean", async () => {
  const {page, seen, close} = await open(browser, demo, {forcedColors: "active"});
  const keys = await page.locator("#diversity .legend .key").evaluateAll((list) => list.map((e) => getComputedStyle(e, "::before").backgroundColor));
  assert.ok(keys.length > 1);
  assert.equal(new Set(keys).size, keys.length);
  quiet(seen);
  await close();
});

await test("whoever has set larger letters gets them, and no sideways scrolling", async () => {
  const large = await launch("--blink-settings=defaultFontSize=32");
  const {page, seen, close} = await open(large, demo);
  assert.equal(await page.evaluate(() => getComputedStyle(document.querySelector(".finding p:nth-of-type(2)")).fontSize), "30px");
  assert.ok(await page.evaluate(() => document.scrollingElement.scrollWidth <= document.scrollingElement.clientWidth));
  quiet(seen);
  await close();
  await large.close();
});

await test("a phone gets charts of its width, a desktop and paper those of theirs", async () => {
  const {page, seen, close} = await open(browser, demo, {viewport: {width: 390, height: 800}});
  const shown = (selector) => page.locator(selector).evaluateAll((list) => list.filter((e) => e.checkVisibility()).length);
  const pairs = await page.locator("svg.narrow + svg.wide").count();
  const uplot = process.env.UPLOT === "yes" ? 1 : 0; // the drawing that it stands for
  assert.ok(pairs >= 6, `${pairs}`);
  assert.equal(await page.locator("svg.narrow").count(), pairs);
  assert.equal(await shown("svg.narrow"), pairs - uplot);
  assert.equal(await shown("svg.narrow + svg.wide"), 0);
  // The slider moves the one that is seen.
  const line = page.locator("#quality-chart-narrow .what-if"), slider = page.locator("#quality-slider");
  const before = await line.getAttribute("x1");
  await slider.focus();
  for (let i = 0; i < 40; i++) await page.keyboard.press("ArrowRight");
  assert.ok(Number(await line.getAttribute("x1")) > Number(before));
  await page.emulateMedia({media: "print"});
  assert.equal(await shown("svg.narrow"), 0);
  assert.equal(await shown("svg.narrow + svg.wide"), pairs);
  await page.emulateMedia({media: "screen"});
  await page.setViewportSize({width: 1280, height: 900});
  assert.equal(await shown("svg.narrow"), 0);
  assert.equal(await shown("svg.narrow + svg.wide"), pairs - uplot);
  quiet(seen);
  await close();
});

await test("readable with scripts off", async () => {
  const {page, seen, close} = await open(browser, demo, {javaScriptEnabled: false});
  for (const id of SECTIONS) assert.ok(await page.locator(`section#${id} h2`).isVisible(), id);
  assert.ok((await page.locator("svg[role=img]").count()) >= 8);
  assert.ok(await page.locator("#curriculum svg.wide[role=img]").first().isVisible());
  for (const control of await page.locator("input, section button").all()) assert.ok(!(await control.isVisible()));
  quiet(seen);
  await close();
});

await test("text alone, redacted, without samples: still a whole page", async () => {
  const out = path.join(folder, "bare");
  saerl("audit", path.join(folder, "hostile.jsonl"), "-o", out, "--set", "output.samples_in_report=0");
  const html = fs.readFileSync(path.join(out, "report.html"), "utf8");
  assert.doesNotMatch(html, /number \d+ of them/);
  const {page, seen, close} = await open(browser, path.join(out, "report.html"));
  for (const id of SECTIONS) assert.equal(await page.locator(`section#${id}`).count(), 1, id);
  quiet(seen);
  await close();
});

await browser.close();
finish();
