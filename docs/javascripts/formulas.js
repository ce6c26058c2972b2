// Formulas, which arithmatex leaves as \(...\) and \[...\], by the copy of KaTeX beside this file.
document.querySelectorAll(".arithmatex").forEach((element) => {
  const text = element.textContent.trim();
  katex.render(text.slice(2, -2), element, {
    displayMode: text.startsWith("\\["),
    throwOnError: false,
  });
});
