/* What the explorer computes: gains, maps of the mean square and of the cosine, and the signal of a
   plain chain. The formulas are those of fanwise's `schemes` and `network.curves`; tests/site holds
   this file against them. No dependency; Node reads it as a module, a page as a script. */
"use strict";

const explorer = (() => {
  const SQRT2 = Math.SQRT2;

  /** erf by its series for small arguments and its continued fraction for large ones. */
  function erf(x) {
    const a = Math.abs(x);
    if (a > 6) return Math.sign(x);
    if (a < 2.5) {
      let term = a, sum = a;
      for (let n = 1; Math.abs(term) > 1e-17 * Math.abs(sum); n++) {
        term *= (-a * a) / n;
        sum += term / (2 * n + 1);
      }
      return Math.sign(x) * (2 / Math.sqrt(Math.PI)) * sum;
    }
    let f = 0;
    for (let k = 80; k > 0; k--) f = k / 2 / (a + f);
    return Math.sign(x) * (1 - Math.exp(-a * a) / Math.sqrt(Math.PI) / (a + f));
  }

  const sigmoid = (z) => 0.5 * (1 + Math.tanh(z / 2));
  const softplus = (z) => Math.max(z, 0) + Math.log1p(Math.exp(-Math.abs(z)));
  const density = (z) => Math.exp(-0.5 * z * z) / Math.sqrt(2 * Math.PI);
  const normal = (z) => 0.5 * (1 + erf(z / SQRT2));
  const SELU = [1.0507009873554805, 1.6732632423543772];

  /** Each activation and its derivative. */
  const ACTIVATIONS = {
    linear: [(z) => z, () => 1],
    relu: [(z) => Math.max(z, 0), (z) => (z > 0 ? 1 : 0)],
    leaky_relu: [(z) => (z > 0 ? z : 0.01 * z), (z) => (z > 0 ? 1 : 0.01)],
    elu: [(z) => (z > 0 ? z : Math.expm1(z)), (z) => (z > 0 ? 1 : Math.exp(z))],
    selu: [
      (z) => SELU[0] * (z > 0 ? z : SELU[1] * Math.expm1(z)),
      (z) => SELU[0] * (z > 0 ? 1 : SELU[1] * Math.exp(z)),
    ],
    gelu: [(z) => z * normal(z), (z) => normal(z) + z * density(z)],
    silu: [
      (z) => z * sigmoid(z),
      (z) => sigmoid(z) * (1 + z * (1 - sigmoid(z))),
    ],
    mish: [
      (z) => z * Math.tanh(softplus(z)),
      (z) => {
        const t = Math.tanh(softplus(z));
        return t + z * sigmoid(z) * (1 - t * t);
      },
    ],
    tanh: [Math.tanh, (z) => 1 - Math.tanh(z) ** 2],
    sigmoid: [sigmoid, (z) => sigmoid(z) * (1 - sigmoid(z))],
    softplus: [softplus, sigmoid],
    softsign: [(z) => z / (1 + Math.abs(z)), (z) => 1 / (1 + Math.abs(z)) ** 2],
  };

  /** Nodes and weights of Gauss–Legendre quadrature on (-1, 1), by Newton's method. */
  function legendre(count) {
    const nodes = [];
    for (let i = 0; i < count; i++) {
      let x = Math.cos((Math.PI * (i + 0.75)) / (count + 0.5)), slope = 1;
      for (let step = 0; step < 100; step++) {
        let a = 1, b = x;
        for (let k = 2; k <= count; k++) [a, b] = [b, ((2 * k - 1) * x * b - (k - 1) * a) / k];
        slope = (count * (x * b - a)) / (x * x - 1);
        const move = b / slope;
        x -= move;
        if (Math.abs(move) < 1e-16) break;
      }
      nodes.push([x, 2 / ((1 - x * x) * slope * slope)]);
    }
    return nodes;
  }

  const REACH = 9, PANELS = 24, DEGREE = 80;

  /** z and its mass under N(0, 1), in panels that meet at zero, where activations have kinks. */
  const GRID = (() => {
    const rule = legendre(12), width = REACH / PANELS, grid = [];
    for (let panel = -PANELS; panel < PANELS; panel++) {
      for (const [x, weight] of rule) {
        const z = (panel + 0.5 * (x + 1)) * width;
        grid.push([z, 0.5 * width * weight * density(z)]);
      }
    }
    return grid;
  })();

  /** E[g(z)], z ~ N(0, q). */
  function expect(g, q = 1) {
    const std = Math.sqrt(q);
    let sum = 0;
    for (const [z, mass] of GRID) sum += mass * g(std * z);
    return sum;
  }

  /** E[f(z)²] and E[f′(z)²], z ~ N(0, q). */
  const meanSquare = (name, q = 1) => expect((z) => ACTIVATIONS[name][0](z) ** 2, q);
  const meanSlope = (name, q = 1) => expect((z) => ACTIVATIONS[name][1](z) ** 2, q);
  const gain = (name) => 1 / Math.sqrt(meanSquare(name));

  /** Squares of f's Hermite coefficients at variance q; the last is what remains of E[f²]. */
  function hermite(name, q) {
    const std = Math.sqrt(q), f = ACTIVATIONS[name][0], sums = new Float64Array(DEGREE);
    let square = 0;
    for (const [z, mass] of GRID) {
      const value = mass * f(std * z);
      square += value * f(std * z);
      let a = 0, b = 1;
      for (let k = 0; k < DEGREE; k++) {
        sums[k] += value * b;
        [a, b] = [b, (z * b - Math.sqrt(k) * a) / Math.sqrt(k + 1)];
      }
    }
    const squares = Array.from(sums, (s) => s * s);
    squares.push(Math.max(square - squares.reduce((a, b) => a + b, 0), 0));
    return squares;
  }

  /** The cosine of f(u), f(v) for u, v ~ N(0, q) of cosine rho: Mehler's series. */
  function cosineAfter(name, q, rho, squares = hermite(name, q)) {
    let sum = 0, all = 0, power = 1;
    for (const square of squares) {
      sum += square * power;
      all += square;
      power *= rho;
    }
    return all > 0 ? sum / all : 0;
  }

  /** Var(W) by each scheme, of fans and of the second moment m that the activation before keeps. */
  const SCHEMES = {
    xavier: (fanIn, fanOut) => 2 / (fanIn + fanOut),
    he: (fanIn) => 2 / fanIn,
    lecun: (fanIn) => 1 / fanIn,
    gain: (fanIn, fanOut, m) => 1 / (fanIn * m),
    torch: (fanIn) => 1 / (3 * fanIn),
    fixed: (fanIn, fanOut, m, std) => std * std,
  };

  /**
   * The kernels of a plain chain, depth of them, without biases: fans, deviation, the rms of each
   * output z, that of the gradient there (1 at the end), and the cosine of two inputs' outputs.
   * Inputs have rms 1 and the cosine `cosine`; the gain scheme takes m = 1 for the first kernel.
   */
  function chain({ activation, scheme, inputs, width, outputs, depth, std = 0.02, cosine = 0 }) {
    const layers = [];
    let square = 1, rho = cosine;
    for (let i = 0; i < depth; i++) {
      const fanIn = i === 0 ? inputs : width;
      const fanOut = i === depth - 1 ? outputs : width;
      const kept = i === 0 ? 1 : meanSquare(activation);
      const variance = SCHEMES[scheme](fanIn, fanOut, kept, std);
      const q = fanIn * variance * square;
      layers.push({ fanIn, fanOut, std: Math.sqrt(variance), q, rms: Math.sqrt(q), cosine: rho });
      square = meanSquare(activation, q);
      rho = cosineAfter(activation, q, rho);
    }
    let gradient = 1;
    for (let i = depth - 1; i >= 0; i--) {
      layers[i].gradient = Math.sqrt(gradient);
      const before = i > 0 ? meanSlope(activation, layers[i - 1].q) : 1;
      gradient *= layers[i].fanOut * layers[i].std ** 2 * before;
    }
    return layers;
  }

  return {
    ACTIVATIONS, SCHEMES, erf, expect, meanSquare, meanSlope, gain, hermite, cosineAfter, chain,
  };
})();

if (typeof module !== "undefined") module.exports = explorer;
