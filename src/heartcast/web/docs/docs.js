/* Draws /openapi.json: contents, search, one fold per operation. Everything is put in as text, never as markup. */
(() => {
  "use strict";
  const find = (selector) => document.querySelector(selector);
  const METHODS = ["get", "post", "put", "patch", "delete"];
  const ORDER = ["hearts", "push", "ranking", "realtime", "operation", "pages"];
  let schemas = {};

  function make(name, properties = {}, ...children) {
    const element = Object.assign(document.createElement(name), properties);
    element.append(...children.filter((child) => child !== null && child !== undefined));
    return element;
  }

  const resolve = (schema) => (schema?.$ref ? schemas[schema.$ref.split("/").pop()] ?? {} : schema ?? {});

  function typeWords(schema) {
    if (!schema) return "nothing";
    if (schema.$ref) return schema.$ref.split("/").pop();
    if (schema.anyOf) return schema.anyOf.map(typeWords).join(" or ");
    if (schema.enum) return schema.enum.map((value) => JSON.stringify(value)).join(" | ");
    if (schema.const !== undefined) return JSON.stringify(schema.const);
    if (schema.type === "array") return `list of ${typeWords(schema.items ?? {})}`;
    if (schema.type === "object" && typeof schema.additionalProperties === "object") return `object of ${typeWords(schema.additionalProperties)}`;
    return [].concat(schema.type ?? "any").join(" or ");
  }

  function limits(schema) {
    const words = [];
    if (schema.minimum !== undefined) words.push(`≥ ${schema.minimum}`);
    if (schema.maximum !== undefined) words.push(`≤ ${schema.maximum}`);
    if (schema.maxLength !== undefined) words.push(`at most ${schema.maxLength} characters`);
    if (schema.maxItems !== undefined) words.push(`at most ${schema.maxItems} items`);
    if (schema.default !== undefined && schema.default !== null) words.push(`default ${JSON.stringify(schema.default)}`);
    return words.join(", ");
  }

  /** The fields of a schema as rows; structs inside lists follow one level down, named by their path. */
  function fields(schema, prefix = "", depth = 0, seen = new Set()) {
    const found = resolve(schema);
    const rows = [];
    for (const [name, field] of Object.entries(found.properties ?? {})) {
      const isRequired = (found.required ?? []).includes(name);
      rows.push({ name: prefix + name, isRequired, type: typeWords(field), says: [resolve(field).description ?? field.description, limits(field)].filter(Boolean).join(" — ") });
      const inner = field.type === "array" ? field.items : field;
      if (inner?.$ref && !seen.has(inner.$ref) && depth < 2)
        rows.push(...fields(inner, `${prefix}${name}${field.type === "array" ? "[]" : ""}.`, depth + 1, new Set([...seen, inner.$ref])));
    }
    return rows;
  }

  function table(rows) {
    return make("table", {}, make("tbody", {}, ...rows.map((row) =>
      make("tr", {},
        make("td", {}, make("code", { textContent: row.name }), row.isRequired ? make("span", { className: "must", textContent: "required" }) : null),
        make("td", { textContent: row.type }),
        make("td", { textContent: row.says })))));
  }

  function example(schema, name = "", depth = 0) {
    if (depth > 3) return {};
    if (name === "payload") return { title: "Hello" };
    const found = resolve(schema);
    if (found.default !== undefined && found.default !== null) return found.default;
    if (found.examples?.length) return found.examples[0];
    if (found.enum) return found.enum[0];
    if (found.anyOf) return example(found.anyOf.find((part) => part.type === "string") ?? found.anyOf[0], name, depth + 1);
    if (found.type === "object") {
      const required = Object.entries(found.properties ?? {}).filter(([key]) => (found.required ?? []).includes(key));
      return Object.fromEntries(required.map(([key, field]) => [key, example(field, key, depth + 1)]));
    }
    if (found.type === "array") return [example(found.items ?? {}, name.replace(/s$/, ""), depth + 1)];
    if (found.type === "integer" || found.type === "number") return found.minimum ?? 1;
    if (found.type === "boolean") return true;
    return { target_id: "post_123", user_id: "u456", template: "news_v2", channel: "public:news" }[name] ?? "text";
  }

  function curl(method, path, operation) {
    const query = (operation.parameters ?? []).filter((parameter) => parameter.in === "query" && parameter.required);
    const url = location.origin + path + (query.length ? "?" + query.map((parameter) => `${parameter.name}=${example(parameter.schema, parameter.name)}`).join("&") : "");
    const lines = [`curl ${method === "get" ? "" : `-X ${method.toUpperCase()} `}'${url}'`];
    const schema = operation.requestBody?.content?.["application/json"]?.schema;
    if (schema) lines.push("-H 'Content-Type: application/json'", `-d '${JSON.stringify(example(schema))}'`);
    return lines.join(" \\\n  ");
  }

  function codeBlock(text) {
    const copy = make("button", { type: "button", className: "copy", textContent: "Copy" });
    copy.addEventListener("click", async () => {
      await navigator.clipboard?.writeText(text);
      copy.textContent = "Copied";
      setTimeout(() => { copy.textContent = "Copy"; }, 1_500);
    });
    return make("div", { className: "copied" }, make("pre", {}, make("code", { textContent: text })), copy);
  }

  function inside(method, path, operation) {
    const parts = [];
    if (operation.description) parts.push(make("p", { textContent: operation.description }));
    if (operation.parameters?.length) {
      parts.push(make("h3", { textContent: "Parameters" }));
      parts.push(table(operation.parameters.map((parameter) => ({ name: parameter.name, isRequired: parameter.required, type: typeWords(parameter.schema), says: [`in the ${parameter.in}`, parameter.description].filter(Boolean).join(": ") }))));
    }
    const body = operation.requestBody?.content?.["application/json"]?.schema;
    if (body) parts.push(make("h3", {}, "Body ", make("code", { textContent: typeWords(body) })), table(fields(body)));
    for (const [status, response] of Object.entries(operation.responses ?? {})) {
      if (status === "default") continue;
      const schema = Object.values(response.content ?? {})[0]?.schema;
      parts.push(make("h3", {}, "Answer ", make("code", { textContent: status }), ` ${response.description === operation.summary ? "" : (response.description ?? "")}`));
      // Answers always have all of their fields; "required" is a word for bodies.
      const rows = fields(schema).map((row) => ({ ...row, isRequired: false }));
      if (schema) parts.push(table(rows.length ? rows : [{ name: "", type: typeWords(schema), says: "" }]));
    }
    parts.push(make("h3", { textContent: "Try it" }), codeBlock(curl(method, path, operation)));
    return make("div", { className: "inside" }, ...parts);
  }

  function fold(method, path, operation) {
    const isOpen = (operation.security ?? []).some((need) => Object.keys(need).length === 0);
    const summary = make("summary", {},
      make("span", { className: `method ${method}`, textContent: method.toUpperCase() }),
      make("span", { className: "path", textContent: path }),
      make("span", { className: "says", textContent: operation.summary ?? "" }),
      make("span", { className: "lock", textContent: isOpen ? "" : "token or key" }));
    const element = make("details", { className: "operation", id: operation.operationId ?? `${method}${path}` }, summary);
    // The inside is drawn when it is first opened: a hundred tables need not be laid out at once.
    element.addEventListener("toggle", () => { if (element.open && element.children.length === 1) element.append(inside(method, path, operation)); });
    const body = operation.requestBody?.content?.["application/json"]?.schema;
    const words = [method, path, operation.summary, operation.description, ...(operation.tags ?? []), ...(operation.parameters ?? []).map((parameter) => parameter.name), ...(body ? fields(body).map((row) => row.name) : [])];
    return { element, text: words.filter(Boolean).join(" ").toLowerCase(), method, path };
  }

  function draw(document_) {
    schemas = document_.components?.schemas ?? {};
    find("#version").textContent = document_.info.version;
    find("#intro").textContent = `${document_.info.description ?? ""} Errors are problem documents (RFC 9457) with a stable code. Bodies are JSON in UTF-8.`;
    const groups = new Map();
    for (const [path, item] of Object.entries(document_.paths))
      for (const method of METHODS.filter((name) => item[name])) {
        const tag = item[method].tags?.[0] ?? "other";
        if (!groups.has(tag)) groups.set(tag, []);
        groups.get(tag).push(fold(method, path, item[method]));
      }
    const place = (tag) => (ORDER.includes(tag) ? ORDER.indexOf(tag) : ORDER.length);
    const sections = [...groups].sort(([a], [b]) => place(a) - place(b)).map(([tag, operations]) => section(tag, operations));
    find("#search").addEventListener("input", () => search(sections));
    search(sections);
    openNamed();
    addEventListener("hashchange", openNamed);
  }

  function section(tag, operations) {
    const head = make("h2", { textContent: tag });
    const links = operations.map(({ element, method, path }) =>
      make("a", { href: `#${element.id}` }, make("span", { className: `method ${method}`, textContent: method.toUpperCase().replace("DELETE", "DEL") }), make("span", { textContent: path })));
    const side = make("h2", { textContent: tag });
    find("#operations").append(head, ...operations.map(({ element }) => element));
    find("#contents").append(side, ...links);
    return { heads: [head, side], operations, links };
  }

  /** Every word must be somewhere in the operation. */
  function search(sections) {
    const words = find("#search").value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    for (const { heads, operations, links } of sections) {
      let here = 0;
      operations.forEach(({ element, text }, index) => {
        const fits = words.every((word) => text.includes(word));
        element.hidden = links[index].hidden = !fits;
        here += fits;
      });
      for (const head of heads) head.hidden = !here;
      shown += here;
    }
    find("#found").textContent = words.length ? `${shown} ${shown === 1 ? "operation fits" : "operations fit"}.` : "";
  }

  function openNamed() {
    const element = location.hash && document.getElementById(decodeURIComponent(location.hash.slice(1)));
    if (element) {
      element.open = true;
      element.scrollIntoView();
    }
  }

  addEventListener("keydown", (event) => {
    if (event.key !== "/" || event.target.matches("input, textarea")) return;
    event.preventDefault();
    find("#search").focus();
  });

  fetch("/openapi.json")
    .then((response) => response.json())
    .then(draw)
    .catch(() => { find("#intro").textContent = "The document /openapi.json could not be read. Reload the page to try again."; });
})();
