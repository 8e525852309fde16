// A JSON editor over a textarea, which keeps what is typed: the form is sent as if there were no editor.
import {
  bracketMatching, defaultKeymap, drawSelection, EditorState, EditorView, foldGutter, HighlightStyle, highlightActiveLine, history,
  historyKeymap, indentOnInput, json, jsonParseLinter, keymap, lineNumbers, linter, lintGutter, syntaxHighlighting, tags,
} from "../vendor/codemirror-6.43.15/codemirror.mjs";

const colours = HighlightStyle.define([
  { tag: tags.propertyName, color: "var(--k-link)" },
  { tag: tags.string, color: "var(--k-ok)" },
  { tag: [tags.number, tags.bool, tags.null], color: "var(--k-busy)" },
]);
const look = EditorView.theme({
  "&": { backgroundColor: "var(--k-card)", color: "var(--k-ink)", border: "1px solid var(--k-line)", borderRadius: "6px", fontSize: ".8125rem" },
  ".cm-scroller": { minHeight: "9rem", maxHeight: "28rem", overflow: "auto", fontFamily: "ui-monospace, Menlo, Consolas, monospace" },
  ".cm-gutters": { backgroundColor: "var(--k-page)", color: "var(--k-soft)", border: "none" },
  ".cm-activeLine, .cm-activeLineGutter": { backgroundColor: "color-mix(in srgb, var(--k-calm-bg) 50%, transparent)" },
  ".cm-cursor": { borderLeftColor: "var(--k-ink)" },
  ".cm-tooltip": { backgroundColor: "var(--k-card)", color: "var(--k-ink)", border: "1px solid var(--k-line)" },
  "&.cm-focused": { outline: "2px solid var(--k-link)" },
});

export function jsonEditor(place, area, nonce) {
  const check = linter((view) => (view.state.doc.toString().trim() ? jsonParseLinter()(view) : []));
  const view = new EditorView({
    parent: place,
    state: EditorState.create({
      doc: area.value,
      extensions: [
        EditorView.cspNonce.of(nonce), lineNumbers(), foldGutter(), lintGutter(), history(), drawSelection(), indentOnInput(),
        bracketMatching(), highlightActiveLine(), json(), check, syntaxHighlighting(colours), look,
        // Tab leaves the editor, as it leaves every other field; Ctrl-Enter runs
        keymap.of([...defaultKeymap.filter((each) => each.key !== "Mod-Enter"), ...historyKeymap]),
        EditorView.contentAttributes.of({ "aria-label": area.getAttribute("aria-label") ?? "JSON" }),
        EditorView.updateListener.of((update) => {
          if (update.docChanged) area.value = update.state.doc.toString();
        }),
      ],
    }),
  });
  return {
    show(text) {
      view.dispatch({ changes: { from: 0, to: view.state.doc.length, insert: text } });
    },
    focus: () => view.focus(),
  };
}
