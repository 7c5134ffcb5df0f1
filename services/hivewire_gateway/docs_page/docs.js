// Shows the OpenAPI document as text: nothing of it ever becomes markup.
"use strict";

const byId = (id) => document.getElementById(id);

function element(name, text, ...children) {
  const made = document.createElement(name);
  if (text !== undefined && text !== null) made.textContent = String(text);
  made.append(...children);
  return made;
}

function row(...cells) {
  return element("tr", null, ...cells.map((cell) => element("td", cell)));
}

// References within the document become links; everything else is text.
function schemaText(schema) {
  const pre = element("pre", null);
  const text = JSON.stringify(schema, null, 2) ?? "";
  const pattern = /"#\/components\/schemas\/([A-Za-z0-9._-]+)"/g;
  let end = 0;
  for (const match of text.matchAll(pattern)) {
    const link = element("a", match[1]);
    link.href = "#schema-" + match[1];
    pre.append(text.slice(end, match.index), link);
    end = match.index + match[0].length;
  }
  pre.append(text.slice(end));
  return pre;
}

function contents(parts) {
  return Object.entries(parts ?? {}).map(([mediaType, part]) =>
    element("div", null, element("code", mediaType), schemaText(part.schema ?? {}))
  );
}

function resolved(api, part) {
  if (typeof part?.$ref !== "string") return part ?? {};
  const names = part.$ref.replace("#/", "").split("/");
  return names.reduce((found, name) => (found && Object.hasOwn(found, name) ? found[name] : undefined), api) ?? {};
}

function operationDetails(api, method, path, operation) {
  const summary = element("summary", null, element("code", method.toUpperCase(), ""), element("code", path));
  summary.firstChild.className = "method";
  const what = element("span", operation.summary);
  what.className = "what";
  summary.append(what);
  const details = element("details", null, summary);
  for (const line of (operation.description ?? "").split("\n")) {
    if (line) details.append(element("p", line));
  }
  const parameters = operation.parameters ?? [];
  if (parameters.length) {
    const table = element("table", null);
    for (const each of parameters) table.append(row(each.name, each.in, each.description ?? ""));
    details.append(element("h4", "Parameters"), table);
  }
  if (operation.requestBody) details.append(element("h4", "Body"), ...contents(operation.requestBody.content));
  details.append(element("h4", "Responses"));
  for (const [status, response] of Object.entries(operation.responses ?? {})) {
    const found = resolved(api, response);
    const isProblem = Object.keys(found.content ?? {}).join() === "application/problem+json";
    details.append(element("p", status + " " + (found.description ?? "")), ...(isProblem ? [] : contents(found.content)));
  }
  details.dataset.text = (method + " " + path + " " + (operation.summary ?? "")).toLowerCase();
  return details;
}

function show(api) {
  byId("title").textContent = api.info.title + " " + api.info.version;
  byId("about").textContent = api.info.description ?? "";
  const groups = new Map();
  for (const [path, operations] of Object.entries(api.paths)) {
    for (const [method, operation] of Object.entries(operations)) {
      const tag = operation.tags?.[0] ?? "";
      if (!groups.has(tag)) groups.set(tag, []);
      groups.get(tag).push(operationDetails(api, method, path, operation));
    }
  }
  byId("operations").replaceChildren(
    ...[...groups].map(([tag, operations]) => element("section", null, element("h2", tag), ...operations))
  );
  byId("schemas").replaceChildren(
    ...Object.entries(api.components.schemas).map(([name, schema]) => {
      const details = element("details", null, element("summary", name), schemaText(schema));
      details.id = "schema-" + name;
      return details;
    })
  );
}

async function load() {
  const token = byId("token").value;
  const headers = token ? { Authorization: "Bearer " + token } : {};
  byId("trouble").textContent = "";
  try {
    const response = await fetch("/openapi.json", { headers });
    byId("login").hidden = response.ok;
    if (!response.ok) throw new Error("openapi.json: " + response.status);
    show(await response.json());
  } catch (error) {
    byId("trouble").textContent = String(error);
  }
}

byId("login").addEventListener("submit", (event) => {
  event.preventDefault();
  load();
});
byId("search").addEventListener("input", (event) => {
  const wanted = event.target.value.toLowerCase();
  for (const details of document.querySelectorAll("main details")) {
    details.hidden = !details.dataset.text.includes(wanted);
  }
});
window.addEventListener("hashchange", () => {
  const target = byId(decodeURIComponent(location.hash.slice(1)));
  if (target instanceof HTMLDetailsElement) target.open = true;
});
load();
