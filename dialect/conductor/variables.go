package conductor

// VariablesCell is the cell that holds a run's variables as a JSON object. A run that has set
// none has no such cell; see Variables.
const VariablesCell = variablesCell
