# What is asked for: a rule or file that does not exist is refused with the nearest name, before anything is planned.
import sys

from snakemake.cli import get_argument_parser

from knatlas.targets import target_mistakes


def targets_asked_for():
    """The rules and files that the command line names; none of a job on a cluster, or when this is no command."""
    command = Path(sys.argv[0])
    if not workflow.is_main_process or "snakemake" not in (command.name, command.parent.name):
        return set()
    # read once more: the workflow learns its targets only after all rules
    options, _ = get_argument_parser().parse_known_args(sys.argv[1:])
    return {*options.targets, *options.forcerun, *options.until, *options.omit_from}


def refuse_unknown_targets():
    """Stop with a sentence for each target that nothing makes."""
    # a pattern whose wildcard may have no value, as of sets that are imported where none is, makes nothing
    nothing = any_of([])
    outputs = {each.name: [str(path) for path in each.output if nothing not in str(path)] for each in workflow.rules}
    values = {
        "model": list(MODELS),
        "language": [*config["languages"], "all"],
        "control": KINDS_OF_CONTROL,
        "family": config["planted"]["families"],
        "dataset": list(read_catalog("datasets")),
    }
    mistakes = list(target_mistakes(targets_asked_for(), outputs, values, config["study"]))
    if mistakes:
        raise WorkflowError("\n".join(mistakes))


# the rules of a workflow that uses this one are not known here
if not IS_MODULE:
    refuse_unknown_targets()
