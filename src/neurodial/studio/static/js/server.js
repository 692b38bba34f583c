// Every address of the server that the page asks, with what goes there and what comes back.
import { get, post, remove } from "./api.js";
/** @import * as requests from "../../types/requests.d.ts" */
/** @import * as views from "../../types/views.d.ts" */

const part = encodeURIComponent;

/** @returns {Promise<views.Model>} */
export const getModel = () => get("/api/model");

/** @returns {Promise<views.PromptSet[]>} */
export const listPromptSets = () => get("/api/prompt-sets");

/** @returns {Promise<views.OptionForms>} */
export const getOptions = () => get("/api/options");

/** @param {requests.CheckRequest} asked @returns {Promise<views.CheckedPrompts>} */
export const checkPrompts = (asked) => post("/api/prompts/check", asked);

/** @returns {Promise<views.OpenersBySource>} */
export const getOpeners = () => get("/api/openers");

// -------------------------------------------------------------- jobs

/** @returns {Promise<views.Job[]>} */
export const listJobs = () => get("/api/jobs");

/** @param {number} job @returns {Promise<views.Job>} */
export const getJob = (job) => get(`/api/jobs/${job}`);

/** @param {number} job @returns {Promise<views.Job>} */
export const cancelJob = (job) => remove(`/api/jobs/${job}`);

/** @param {number} job @returns {Promise<views.Discovered>} */
export const getDiscovered = (job) => get(`/api/jobs/${job}/result`);

/** @param {number} job @returns {Promise<views.ExplainedView>} */
export const getExplained = (job) => get(`/api/jobs/${job}/result`);

/** @param {number} job */
export const explainedPage = (job) => `/api/jobs/${job}/page`;

/** @param {number} job @returns {Promise<views.Reported>} */
export const getReported = (job) => get(`/api/jobs/${job}/result`);

/** @param {number} job @returns {Promise<views.Exported>} */
export const getExported = (job) => get(`/api/jobs/${job}/result`);

/** @param {requests.AnswerRequest} asked @returns {Promise<views.Job>} */
export const startAnswer = (asked) => post("/api/answers", asked);

/** @param {requests.StripRequest} asked @returns {Promise<views.Job>} */
export const startStrip = (asked) => post("/api/strips", asked);

/** @param {requests.OpenersRequest} asked @returns {Promise<views.Job>} */
export const startOpeners = (asked) => post("/api/openers", asked);

/** @param {requests.Discovery} asked @returns {Promise<views.Job>} */
export const startDiscovery = (asked) => post("/api/discoveries", asked);

/** @param {requests.NeuronRequest} asked @returns {Promise<views.Job>} */
export const startNeuron = (asked) => post("/api/neurons", asked);

/** @param {requests.WholeRequest} asked @returns {Promise<views.Job>} */
export const startWhole = (asked) => post("/api/wholes", asked);

/** @param {requests.MeasurementRequest} asked @returns {Promise<views.Job>} */
export const startMeasurement = (asked) => post("/api/measurements", asked);

/** @param {requests.ExportRequest} asked @returns {Promise<views.Job>} */
export const startExport = (asked) => post("/api/exports", asked);

// -------------------------------------------------------------- conversations and files

/** @returns {Promise<views.ConversationEntry[]>} */
export const listConversations = () => get("/api/conversations");

/** @param {string} id @returns {Promise<views.Conversation>} */
export const getConversation = (id) => get(`/api/conversations/${part(id)}`);

/** @param {requests.ConversationRequest} asked @returns {Promise<views.Saved>} */
export const saveConversation = (asked) => post("/api/conversations", asked);

/** @param {string} id @returns {Promise<views.Saved>} */
export const removeConversation = (id) => remove(`/api/conversations/${part(id)}`);

/** @param {string} id */
export const conversationFile = (id) => `/api/conversations/${part(id)}/file`;

/** @param {requests.OpenRequest} asked @returns {Promise<views.Opened>} */
export const openFile = (asked) => post("/api/open", asked);

// -------------------------------------------------------------- circuits

/** @returns {Promise<views.CircuitEntry[]>} */
export const listCircuits = () => get("/api/circuits");

/** @param {string} id @returns {Promise<views.CircuitPage>} */
export const getCircuit = (id) => get(`/api/circuits/${part(id)}`);

/** @param {requests.SaveRequest} asked @returns {Promise<views.Saved>} */
export const saveCircuit = (asked) => post("/api/circuits", asked);

/** @param {string} first @param {string} second @returns {Promise<views.Overlap>} */
export const getOverlap = (first, second) => get(`/api/overlap/${part(first)}/${part(second)}`);

/** @param {string} id */
export const circuitFile = (id) => `/api/circuits/${part(id)}/file`;

/** @param {string[]} ids @returns {Promise<views.Doses>} */
export const getDoses = (ids) => get(`/api/doses/${ids.map(part).join(",")}`);

// -------------------------------------------------------------- reports and exports

/** @returns {Promise<string[]>} */
export const listMethods = () => get("/api/methods");

/** @returns {Promise<views.ReportEntry[]>} */
export const listReports = () => get("/api/reports");

/** @param {string} id @param {string} reportPart @returns {Promise<views.ReportView>} */
export const getReport = (id, reportPart) => get(`/api/reports/${part(id)}/${part(reportPart)}`);

/** @param {string} id @param {string} reportPart */
export const reportPage = (id, reportPart) => `/api/reports/${part(id)}/${part(reportPart)}/page`;

/** @param {string} id @param {requests.NameRequest} asked @returns {Promise<views.Saved>} */
export const renameReport = (id, asked) => post(`/api/reports/${part(id)}/name`, asked);

/** @param {string} id */
export const runFile = (id) => `/api/reports/${part(id)}/file`;

/** @param {string[]} parts two reports, each with its part @returns {Promise<views.Comparison>} */
export const getComparison = ([a, b, c, d]) => get(`/api/comparisons/${part(a)}/${part(b)}/${part(c)}/${part(d)}`);

/** @param {string[]} parts two reports, each with its part */
export const comparisonPage = (parts) => `/api/comparisons/${parts.map(part).join("/")}/page`;

/** @returns {Promise<views.ExportFormat[]>} */
export const listExportFormats = () => get("/api/export-formats");

/** @returns {Promise<string[]>} */
export const listExports = () => get("/api/exports");

/** @param {string} id @returns {Promise<views.ExportView>} */
export const getExport = (id) => get(`/api/exports/${part(id)}`);

/** @param {string} id @param {number} place */
export const exportFile = (id, place) => `/api/exports/${part(id)}/files/${place}`;
