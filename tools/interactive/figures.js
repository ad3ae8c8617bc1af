// Starts the interactive figures of a page (lrteach/interactive.py writes them, sphinx_interactive.py
// bundles this with Vega). A control chooses among results that the chapter has computed; no result is
// computed here. Vega evaluates its expressions with the interpreter, so that pages need no eval.
const start = async (figure) => {
  const { spec, controls, says } = JSON.parse(figure.querySelector("script").textContent);
  const picture = figure.querySelector(".interactive-picture");
  const live = picture.appendChild(document.createElement("div"));
  live.className = "interactive-live";
  live.setAttribute("aria-hidden", "true"); // the picture around it has the alternative text
  const view = new View(parse(spec, null, { ast: true }), {
    expr: expressionInterpreter, renderer: "svg", container: live, hover: false,
  });

  const inputs = [...figure.querySelectorAll("input, select")];
  const line = figure.querySelector(".interactive-says");
  const show = (input, i) => {
    const { name, values, texts } = controls[i];
    const place = Number(input.value);
    view.signal(name, values[place]);
    if (input.type === "range") {
      input.setAttribute("aria-valuetext", texts[place]);
      input.parentElement.nextElementSibling.textContent = texts[place];
    }
  };
  const speak = () => {
    // one sentence for each combination, the last control's values following each other
    const place = inputs.reduce((n, input, i) => n * controls[i].values.length + Number(input.value), 0);
    if (says.length && line.textContent !== says[place]) line.textContent = says[place];
  };
  inputs.forEach((input, i) => {
    input.addEventListener("input", () => {
      show(input, i);
      speak();
      view.runAsync();
    });
    show(input, i); // browsers restore what a reader had chosen
  });
  speak();
  await view.runAsync();
  // the same frame as the picture's, whatever width the letters have here: nothing moves
  const [still, drawn] = picture.querySelectorAll("svg");
  drawn.setAttribute("viewBox", still.getAttribute("viewBox"));
  figure.classList.add("is-live");
};

// Each figure starts when it comes near; begin.js, which loads this, has waited for the first.
const near = new IntersectionObserver((entries) => entries.forEach(({ isIntersecting, target }) => {
  if (!isIntersecting) return;
  near.unobserve(target);
  start(target).catch((error) => {
    target.querySelector(".interactive-live")?.remove(); // the static picture stays
    console.error(error);
  });
}), { rootMargin: "600px" });
document.querySelectorAll(".interactive").forEach((figure) => near.observe(figure));
