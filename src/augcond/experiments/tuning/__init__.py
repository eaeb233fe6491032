"""`augcond tune`: which recipe, guidance and amount for these photos, from the real training images alone.

**Judged by cross-validation.** A *training* of a candidate is one stratified cross-validation over the real training
images: each fold is held out once and judged by a classifier that was trained on the others and on generated images.
Folds are drawn once; every training has a seed of its own, the same for all candidates, so that these compare in pairs
with each other and with real images alone. A class of two images has each left out once; a class of one is trained on
and never judged; where every class has one there are no folds, and the config's own settings are returned, unjudged.
The test set is never opened: the configs of all candidates name none.

**One generation serves every fold** (`folds.py`). A fold leaves out every generated image any of whose sources is held
out, so each image is made of real ones that one or two given folds hold out: every fold then uses as many images of
each class of any recipe. Recipes whose images depend on real images that are no sources of theirs (means of classes,
nearest pairs, across classes) are left out, and said so.

**Halving with growing pilots** (`schedule.py`). Some 24 named candidates (`candidates.py`): sets of images that differ
in recipe, guidance, dropout, mixing and steps in several ways at once, and for each set how it is trained on (share,
amount, counts). Part of the sets is proposed by Optuna's TPE sampler once the designed ones are ranked. Each round
makes more images of the sets that are left; they grow, so nothing is made twice. Candidates are cut by Optuna's pruning
(`study.py`), whose rule looks at all of a round at once, because only then are they compared alike.

**A cheap judge** (`judging.py`) ranks the first round where that is shown to agree: a linear classifier on features of
the generator's image encoder judges all, training judges eight, and only where the rank correlation of these is 0.5 or
more does it rank the others. What it cannot see (the counts of the loss) it does not decide between.

**The last round** trains each finalist four times, the config's own settings always among them. These are kept unless
another, or real images alone, leads them by more than one standard error; what is chosen is estimated as
`evaluation/tuning_choice.py` says, so that neither luck of the training nor of the images that picked it, in whichever
round, is counted as gain.

**Several processes** (`tune.py`) share a tuning as they share a run: what is to be done is a list that each derives
from the study and the records on disk; who claims an entry does it, and a record is written whole and last. What a
killed process leaves is done again, with the same result.
"""
