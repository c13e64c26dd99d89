// What the browser tests share: a page opened from disk and watched, and cases counted as TAP.
import assert from "node:assert/strict";
import {createRequire} from "node:module";
import {pathToFileURL} from "node:url";

const {chromium} = createRequire(import.meta.url)(process.env.PLAYWRIGHT);

let number = 0;
let failed = 0;

// One case; the next runs whether or not this one holds.
export async function test(name, body) {
  number++;
  try {
    await body();
    console.log(`ok ${number} - ${name}`);
  } catch (error) {
    failed++;
    console.log(`not ok ${number} - ${name}`);
    console.log(String(error.stack ?? error).replace(/^/gm, "  # "));
  }
}

export function finish() {
  console.log(`1..${number}`);
  process.exitCode = failed ? 1 : 0;
}

export async function launch(...args) {
  // As root, as in a container, there is no sandbox; the pages are ours.
  return chromium.launch({executablePath: process.env.CHROMIUM, args: ["--no-sandbox", ...args]});
}

// A report in a context of its own; whatever it asks for, says or tries is written down.
export async function open(browser, path, options = {}) {
  const context = await browser.newContext({viewport: {width: 1280, height: 900}, ...options});
  const page = await context.newPage();
  const url = pathToFileURL(path).href;
  const seen = {requests: [], console: [], dialogs: 0};
  page.on("request", (r) => {
    if (r.url() !== url) seen.requests.push(r.url());
  });
  page.on("console", (m) => {
    if (["error", "warning"].includes(m.type())) seen.console.push(m.text());
  });
  page.on("pageerror", (e) => seen.console.push(String(e)));
  page.on("dialog", async (d) => {
    seen.dialogs++;
    await d.dismiss();
  });
  await page.goto(url);
  return {page, seen, close: () => context.close()};
}

export function quiet(seen) {
  assert.deepEqual(seen, {requests: [], console: [], dialogs: 0});
}

// Runs in the page: every text whose contrast with what is behind it is below `least`.
export function lowContrast(least) {
  const parse = (text) => {
    const m = text.match(/rgba?\(([^)]*)\)/);
    if (!m) return null;
    const [r, g, b, a = 1] = m[1].split(/[ ,/]+/).filter(Boolean).map(Number);
    return {r, g, b, a};
  };
  const over = (top, under) => ({
    r: top.r * top.a + under.r * (1 - top.a),
    g: top.g * top.a + under.g * (1 - top.a),
    b: top.b * top.a + under.b * (1 - top.a),
    a: 1,
  });
  const luminance = ({r, g, b}) => {
    const [x, y, z] = [r, g, b].map((c) => {
      c /= 255;
      return c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * x + 0.7152 * y + 0.0722 * z;
  };
  const behind = (element) => {
    const layers = [];
    for (let e = element; e; e = e.parentElement) {
      const color = parse(getComputedStyle(e).backgroundColor);
      if (color && color.a > 0) layers.push(color);
      if (color && color.a === 1) break;
    }
    const scheme = matchMedia("(prefers-color-scheme: dark)").matches ? 0 : 255;
    return layers.reverse().reduce((under, top) => over(top, under), {r: scheme, g: scheme, b: scheme, a: 1});
  };
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  const low = [];
  for (let node = walker.nextNode(); node; node = walker.nextNode()) {
    const element = node.parentElement;
    if (!node.data.trim() || element.closest("script, style, title, desc")) continue;
    if (!element.checkVisibility({visibilityProperty: true})) continue;
    const style = getComputedStyle(element);
    const inSvg = element.namespaceURI.endsWith("svg");
    const color = parse(inSvg ? style.fill : style.color);
    if (!color) continue;
    const ground = behind(element);
    const [a, b] = [luminance(over(color, ground)), luminance(ground)];
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (ratio < least) low.push(`${ratio.toFixed(2)} ${element.tagName}.${element.getAttribute("class")} "${node.data.trim().slice(0, 30)}"`);
  }
  return [...new Set(low)];
}
