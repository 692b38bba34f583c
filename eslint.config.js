// The studio's browser code. Names that do not exist are TypeScript's business: it knows what a browser has.
import js from "@eslint/js";

const PAGE = "src/neurodial/studio/static/**/*.js";

export default [
  { ignores: ["**/*", "!src/", "!src/**", "!eslint.config.js"] },
  { ...js.configs.recommended, files: [PAGE] },
  {
    files: [PAGE],
    linterOptions: { reportUnusedDisableDirectives: "error" },
    rules: {
      "no-undef": "off",
      // A function fits on a screen, a module holds one idea, as in the Python code.
      complexity: ["error", 12],
      "max-depth": ["error", 3],
      "max-lines": ["error", 250],
      "max-lines-per-function": ["error", { max: 50, skipComments: true }],
      "max-nested-callbacks": ["error", 4],
      "max-params": ["error", 5],
      "max-len": ["error", { code: 120 }],
      curly: ["error", "all"],
      eqeqeq: "error",
      "no-console": "error",
      "no-eval": "error",
      "no-implied-eval": "error",
      "no-nested-ternary": "error",
      "no-param-reassign": "error",
      "no-restricted-properties": [
        "error",
        { property: "innerHTML", message: "Text becomes text nodes only: see dom.js." },
        { property: "outerHTML", message: "Text becomes text nodes only: see dom.js." },
        { property: "insertAdjacentHTML", message: "Text becomes text nodes only: see dom.js." },
      ],
      "no-shadow": "error",
      "no-use-before-define": ["error", { functions: false, classes: false, variables: false }],
      "no-var": "error",
      "object-shorthand": "error",
      "prefer-const": "error",
      "prefer-template": "error",
    },
  },
];
