"""Class names of data sets that show some of ImageNet's classes under other conditions.

Sources: the 200 classes of ImageNet-A (arXiv 1907.07174) are those of `eval.py` in github.com/hendrycks/
natural-adv-examples, the 200 of ImageNet-R (arXiv 2006.16241) those of github.com/hendrycks/imagenet-r (both MIT
License, Copyright (c) Dan Hendrycks), here as positions in the sorted WordNet ids, called as CLIP calls them. Of
ObjectNet (Barbu et al. 2019) it is the 113 classes that overlap with ImageNet, called as in its own `mappings/`, in
lower case and the order of its folders; whoever measures on them leaves its other 200 folders out. ImageNet-V2 and
ImageNet-Sketch have all 1,000 classes: `imagenet`.
"""

from vljax.evaluate.imagenet import IMAGENET

_A = """
6 11 13 15 17 22 23 27 30 37 39 42 47 50 57 70 71 76 79 89 90 94 96 97 99 105 107 108 110 113 124 125 130 132 143 144
150 151 207 234 235 254 277 283 287 291 295 298 301 306 307 308 309 310 311 313 314 315 317 319 323 324 326 327 330
334 335 336 347 361 363 372 378 386 397 400 401 402 404 407 411 416 417 420 425 428 430 437 438 445 456 457 461 462
470 472 483 486 488 492 496 514 516 528 530 539 542 543 549 552 557 561 562 569 572 573 575 579 589 606 607 609 614
626 627 640 641 642 643 658 668 677 682 684 687 701 704 719 736 746 749 752 758 763 765 768 773 774 776 779 780 786
792 797 802 803 804 813 815 820 823 831 833 835 839 845 847 850 859 862 870 879 880 888 890 897 900 907 913 924 932
933 934 937 943 945 947 951 954 956 957 959 971 972 980 981 984 986 987 988
"""

_R = """
1 2 4 6 8 9 11 13 22 23 26 29 31 39 47 63 71 76 79 84 90 94 96 97 99 100 105 107 113 122 125 130 132 144 145 147 148
150 151 155 160 161 162 163 171 172 178 187 195 199 203 207 208 219 231 232 234 235 242 245 247 250 251 254 259 260
263 265 267 269 276 277 281 288 289 291 292 293 296 299 301 308 309 310 311 314 315 319 323 327 330 334 335 337 338
340 341 344 347 353 355 361 362 365 366 367 368 372 388 390 393 397 401 407 413 414 425 428 430 435 437 441 447 448
457 462 463 469 470 471 472 476 483 487 515 546 555 558 570 579 583 587 593 594 596 609 613 617 621 629 637 657 658
701 717 724 763 768 774 776 779 780 787 805 812 815 820 824 833 847 852 866 875 883 889 895 907 928 931 932 933 934
936 937 943 945 947 948 949 951 953 954 957 963 965 967 980 981 983 988
"""

_OBJECTNET = """
alarm clock; backpack; banana; band aid; basket; beer bottle; bench; bicycle; binder (closed); bottle cap; bread loaf;
broom; bucket; butcher's knife; can opener; candle; cellphone; chair; clothes hamper; coffee/french press; combination
lock; computer mouse; desk lamp; doormat; dress; dress shoe (men); drill; drinking cup; drying rack for plates;
envelope; fan; frying pan; bath towel; hair dryer; hammer; dishrag or hand towel; helmet; iron (for clothes); jeans;
keyboard; ladle; lampshade; laptop (open); lemon; letter opener; lighter; lipstick; match; measuring cup; microwave;
mixing / salad bowl; monitor; mug; nail (fastener); necklace; orange; padlock; paintbrush; paper towel; pen; pill
bottle; pillow; pitcher; plastic bag; plate; plunger; pop can; portable heater; printer; remote control; ruler;
running shoe; safety pin; salt shaker; sandal; screw; shovel; skirt; sleeping bag; soap dispenser; sock; soup bowl;
spatula; speaker; still camera; strainer; stuffed animal; suit jacket; sunglasses; sweater; swimming trunks; t-shirt;
teapot; tennis racket; tie; toaster; toilet paper roll; trash bin; tray; tv; umbrella; vacuum cleaner; vase; wallet;
watch; water bottle; weight (exercise); weight scale; wheel; whistle; wine bottle; winter glove; wok
"""

IMAGENET_A: tuple[str, ...] = tuple(IMAGENET[int(i)] for i in _A.split())
IMAGENET_R: tuple[str, ...] = tuple(IMAGENET[int(i)] for i in _R.split())
OBJECTNET: tuple[str, ...] = tuple(name.strip() for name in _OBJECTNET.replace("\n", " ").split(";"))

OBJECTNET_FOLDERS: dict[str, str] = {
  "butchers_knife": "butcher's knife",
  "drying_rack_for_dishes": "drying rack for plates",
  "full_sized_towel": "bath towel",
  "hand_towel_or_rag": "dishrag or hand towel",
}
"""Folder to class, where the folder is not the class's name."""
