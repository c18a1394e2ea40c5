#!/bin/sh
# Makes the built files of this folder anew from npm: `sh build.sh`, with node and npm. Nobody who uses the page needs it.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
npm init --yes > /dev/null
npm install --no-audit --no-fund esbuild@0.28.2 mdast-util-from-markdown@2.1.0 micromark@4.0.3 \
  micromark-extension-gfm-table@2.1.2 micromark-extension-gfm-strikethrough@2.1.0 micromark-extension-gfm-task-list-item@2.1.0 \
  mdast-util-gfm-table@2.0.1 mdast-util-gfm-strikethrough@2.0.1 mdast-util-gfm-task-list-item@2.0.1 \
  micromark-extension-math@3.1.0 mdast-util-math@3.0.0 highlight.js@11.12.0 temml@0.13.5
cat > markdown.js <<'JS'
import { fromMarkdown } from "mdast-util-from-markdown";
import { gfmTable } from "micromark-extension-gfm-table";
import { gfmStrikethrough } from "micromark-extension-gfm-strikethrough";
import { gfmTaskListItem } from "micromark-extension-gfm-task-list-item";
import { math } from "micromark-extension-math";
import { gfmTableFromMarkdown } from "mdast-util-gfm-table";
import { gfmStrikethroughFromMarkdown } from "mdast-util-gfm-strikethrough";
import { gfmTaskListItemFromMarkdown } from "mdast-util-gfm-task-list-item";
import { mathFromMarkdown } from "mdast-util-math";
export { decodeNamedCharacterReference } from "decode-named-character-reference";

const extensions = [gfmTable(), gfmStrikethrough({ singleTilde: false }), gfmTaskListItem(), math()];
const mdastExtensions = [gfmTableFromMarkdown(), gfmStrikethroughFromMarkdown(), gfmTaskListItemFromMarkdown(), mathFromMarkdown()];
export const parse = (text) => fromMarkdown(text, { extensions, mdastExtensions });
JS
echo 'import hljs from "highlight.js/lib/common"; export default hljs;' > highlight.js
echo 'import temml from "temml"; export default temml;' > formula.js
echo 'export default {};' > nothing.js
# Formulas are drawn by temml: katex, which one of the parser's packages would bring along, stays out.
build() { node_modules/.bin/esbuild "$1.js" --bundle --minify --format=iife --global-name="$2" --alias:katex=./nothing.js \
  --charset=utf8 --legal-comments=inline --platform=neutral --main-fields=module,main --outfile="$here/$1.js"; }
build markdown VendoredMarkdown
build highlight VendoredHighlight
build formula VendoredFormula
{
  echo "The files of this folder are built by build.sh from these npm packages, each under its own licence."
  for folder in $(ls -d node_modules/* | grep -v -e esbuild -e katex -e commander -e '@'); do
    [ -f "$folder/package.json" ] || continue
    printf '\n==== %s\n' "$(node -p "const p = require('./$folder/package.json'); p.name + ' ' + p.version + ', ' + p.license")"
    cat "$folder"/[Ll][Ii][Cc][Ee][Nn][CcSs][Ee]* 2> /dev/null || true
  done
} > "$here/LICENSES.txt"
