// Builds the page from its document.
import { readDocument } from "./document.ts";
import { View } from "./view.ts";

new View(readDocument());
